"""Typed columns of tables: readers, values, and the transform that makes them numbers."""
