"""Recipes, stages, the artifact store, tracking and the downstream jobs."""
