"""Sound: recordings read, made one channel at one rate, and turned into log-mel frames. No network, no training."""
