"""Pixels: image files, IDX and NumPy files, and the units of an ingest of images."""
