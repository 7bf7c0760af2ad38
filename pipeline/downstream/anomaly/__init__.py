"""The job `anomaly`: how well unusual rows and images are told, beside other methods."""
