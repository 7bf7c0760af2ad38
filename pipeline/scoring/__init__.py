"""Scoring of new rows: detectors, thresholds, drift, champions, and the ledger of scored rows."""
