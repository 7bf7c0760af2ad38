"""Rows in memory, the shard format with its digests, remote shards, and the order of samples."""
