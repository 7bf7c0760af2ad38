"""What `sesame plan` says: parameters, memory, time, clusters."""
