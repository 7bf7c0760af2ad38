"""What data look like in numbers: documents, tokens, rows, columns."""
