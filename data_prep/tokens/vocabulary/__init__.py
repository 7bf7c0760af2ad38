"""What vocabularies are made of: words, pieces that are learned, and pieces added to those of others."""
