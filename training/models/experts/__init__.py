"""Mixtures of experts: feed-forward layers of several networks, of which each token meets one."""
