"""The job `anomaly`: how well unusual rows and images are detected, compared with other methods."""
