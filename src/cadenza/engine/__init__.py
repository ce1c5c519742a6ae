"""Runs machines: the store, the runner of a run, the worker that claims runs, and the engine that people call."""
