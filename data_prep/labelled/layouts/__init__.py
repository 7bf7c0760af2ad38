"""Readers of labelled files, one for each way that they are laid out; each gives rows of named fields."""
