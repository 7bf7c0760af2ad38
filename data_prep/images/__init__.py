"""Images: reading image, IDX and NumPy files, and the units of an ingest of images."""
