"""Licence review of a Python environment: many agents, one durable run.

Run it with ``python -m examples.licence_review``; `review.py` is the place to start reading.
"""
