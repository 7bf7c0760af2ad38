"""Packaged comparisons: one YAML file per question, see `pipeline.recipe.comparison`."""
