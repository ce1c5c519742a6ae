"""How long the properties are looked for: a little in every test run, much more with CADENZA_DEEP=1."""

import os

DEEP = bool(os.environ.get("CADENZA_DEEP"))
FACTOR = 25 if DEEP else 1


def seeds(few: int) -> range:
    """``few`` seeds, or 25 times as many."""
    return range(few * FACTOR)
