"""Tokenizers, ids, and how sentences become rows: composition and packing."""
