"""Objectives of arrays: tables and images."""
