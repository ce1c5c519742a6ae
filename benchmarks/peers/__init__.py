"""One script a peer: each runs in an environment of its own and speaks the protocol of `benchmarks.side`."""
