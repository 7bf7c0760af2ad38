"""Text: readers of formats, cleaning, sentence splitting, near duplicates, and the units of an ingest of text."""
