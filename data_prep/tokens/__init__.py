"""Tokenizers, token ids, and composing and packing sentences into rows."""
