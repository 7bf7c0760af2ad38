"""Where artifacts lie: local and remote, locks and signs of life, garbage."""
