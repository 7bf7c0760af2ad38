"""Rows kept on disk, whatever their kind: units that are read once, copies, splits, writing and reading back.

May import sources; knows no format of text, tables or images.
"""
