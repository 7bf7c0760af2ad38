"""Networks only: what maps inputs to outputs. What they pay lives in `training.objectives`."""
