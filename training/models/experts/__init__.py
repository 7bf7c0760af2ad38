"""Mixtures of experts: feed-forward layers of several networks, one of which processes each token."""
