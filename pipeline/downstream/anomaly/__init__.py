"""The job `anomaly`: how well unusual rows and pictures are told, beside other methods."""
