"""Packaged recipes: one YAML file per system."""
