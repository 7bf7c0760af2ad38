"""What a run is watched for: metrics, stuck workers, requests to stop, peak FLOP/s.

Nothing here changes what is learned.
"""
