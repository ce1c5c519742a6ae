"""Choosing the agent that is best able to do the work, and surviving the one that fails (design.md, section 6)."""
