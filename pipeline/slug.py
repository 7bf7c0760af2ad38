"""Pattern of names that become parts of keys and of file names."""

SLUG = r"^[a-z0-9]+(-[a-z0-9]+)*$"
