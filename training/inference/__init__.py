"""Uses of a trained network: anomaly scores, pseudo-likelihoods, features, samples, image compression."""
