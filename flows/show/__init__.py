"""What commands print: examples, statistics, plans, summaries, progress."""
