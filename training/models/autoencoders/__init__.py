"""Networks of arrays: auto-encoders of all kinds, Boltzmann machines, a prior of codes."""
