"""Answers that are a part of a text: windows over long texts, and from scores of tokens to answers. No torch."""
