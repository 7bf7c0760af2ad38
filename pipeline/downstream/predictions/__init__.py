"""The job `predictions`: a text network's predictions on held-out rows, compared with n-grams of the same tokens."""
