"""Labelled sets for downstream jobs, read from packages and files."""
