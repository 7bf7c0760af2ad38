"""The job `document-anomaly`: how well unusual documents are detected by a masked LM's surprisal."""
