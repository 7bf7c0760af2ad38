"""The job `word-vectors`: whether words that people find alike have like vectors."""
