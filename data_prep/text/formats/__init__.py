"""One reader per format of text; each turns the bytes of a part into documents and rejects."""
