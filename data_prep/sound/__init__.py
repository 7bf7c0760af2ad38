"""Sound: decoding recordings to one channel at one rate, and log-mel frames. Independent of networks and training."""
