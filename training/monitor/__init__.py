"""Monitoring of a run: metrics, stuck workers, requests to stop, peak FLOP/s.

Nothing here changes what is learned.
"""
