"""Networks of all families, and the kernels they run faster with on CPUs; none knows the objective that trains it."""
