"""The job `document-anomaly`: how well unusual documents are told by a masked LM's surprisal."""
