"""Extractive question answering without torch: windows over long contexts, and answers from token scores."""
