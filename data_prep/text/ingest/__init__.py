"""From sources of text to a corpus: units, reading, copies and splits, writing."""
