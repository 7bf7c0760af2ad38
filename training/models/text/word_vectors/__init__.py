"""Tables of word vectors, and their settings."""
