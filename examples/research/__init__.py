"""Research on 50 companies: a fan-out that survives what the web does to it.

Run it with ``python -m examples.research``; `research.py` is the place to start reading.
"""
