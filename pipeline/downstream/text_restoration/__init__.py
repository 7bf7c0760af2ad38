"""The job `text-restoration`: held-out texts that an encoder-decoder restores, beside what it was given."""
