"""The job `predictions`: what a network of text predicts on held-out rows, beside n-gram models of the same tokens."""
