"""Where work runs: the cores of this machine, its processes, and Ray clusters."""
