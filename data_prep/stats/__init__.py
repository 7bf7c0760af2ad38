"""Statistics of data: documents, tokens, rows, columns."""
