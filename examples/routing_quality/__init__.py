"""How well the learned parts of routing do on public data."""
