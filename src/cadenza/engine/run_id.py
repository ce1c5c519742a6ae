"""Names for runs: those that they are given here, and those that people give them."""

from __future__ import annotations

import random

from cadenza.errors import UsageError

DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"
BUSINESS_ID_CHARS_MAX = 500


def new_run_id(now: int, chance: random.Random) -> str:
    """Sortable by time (microseconds), no look-alike letters, unique in practice: 8 characters of time, 5 of chance."""
    stamp = now // 1_000
    text = ""
    for _ in range(9):
        stamp, digit = divmod(stamp, 32)
        text = DIGITS[digit] + text
    return text[1:] + "".join(DIGITS[byte & 31] for byte in chance.randbytes(5))


def check_business_id(id: str, on_conflict: str) -> None:
    """Raises UsageError for an id that cannot be stored and found again, or an unknown way out of a conflict."""
    if on_conflict not in ("reject", "join", "replace"):
        raise UsageError(f"on_conflict is reject, join or replace, not {on_conflict!r}")
    if len(id) > BUSINESS_ID_CHARS_MAX or not is_writable(id):
        raise UsageError(f"{id[:40]!r} is no business id: take text of at most {BUSINESS_ID_CHARS_MAX} characters")


def is_writable(text: str) -> bool:
    """Whether ``text`` can be written as UTF-8, as all text but lone surrogates can."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
