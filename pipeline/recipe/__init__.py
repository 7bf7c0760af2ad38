"""Recipes: settings of every section; reading, overlaying and checking files; error messages.

Needs no torch.
"""
