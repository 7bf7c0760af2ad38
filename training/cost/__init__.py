"""What training costs before it runs: FLOPs, memory, and one timed step."""
