"""Networks of all families and faster kernels for CPUs; none depends on the objective that trains it."""
