"""The job `text-restoration`: held-out texts that an encoder-decoder restores, compared with its input."""
