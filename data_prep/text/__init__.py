"""Documents: readers of formats, cleaning, sentences, near duplicates, and the units of an ingest of text."""
