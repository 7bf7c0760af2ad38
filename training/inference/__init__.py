"""What a trained network is asked: anomaly scores, pseudo-likelihoods, samples."""
