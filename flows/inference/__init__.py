"""What trained networks are asked on the command line: samples, texts and predictions."""
