"""Entropy coding with a trained compressor: tables of whole numbers, contexts, the range coder."""
