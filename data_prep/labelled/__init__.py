"""Labelled data sets for downstream jobs, read from packages and files."""
