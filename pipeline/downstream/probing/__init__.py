"""What each layer of a network knows about a task."""
