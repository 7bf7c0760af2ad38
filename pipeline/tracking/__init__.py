"""MLflow: runs, metrics that survive a dead server, the model registry and its gate."""
