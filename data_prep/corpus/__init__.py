"""Rows on disk, of any kind: cached units of reading, duplicate detection, splits, writing and reading back.

May import sources; independent of the formats of text, tables and images.
"""
