"""Patterns of working together: plain durable Python on Context, one a file."""
