"""Cadenza beside the limit of the disk and beside its peers: `python -m benchmarks` (see README.md here)."""
