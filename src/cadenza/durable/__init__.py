"""The durable core: pure, deterministic, without I/O."""
