"""What `sesame score` does: detectors, thresholds, drift, the champion, the ledger of rows scored once."""
