"""The packages whose data recipes may name, and how the files in them are read."""
