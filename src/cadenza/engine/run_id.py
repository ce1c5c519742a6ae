"""Names for runs."""

from __future__ import annotations

import random

DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"


def new_run_id(now: int, chance: random.Random) -> str:
    """Sortable by time (microseconds), no look-alike letters, unique in practice: 8 characters of time, 5 of chance."""
    stamp = now // 1_000
    text = ""
    for _ in range(9):
        stamp, digit = divmod(stamp, 32)
        text = DIGITS[digit] + text
    return text[1:] + "".join(DIGITS[byte & 31] for byte in chance.randbytes(5))
