"""Search attributes: small values beside a run, by which lists and bulk commands find it."""

from __future__ import annotations

import math

from cadenza.errors import DefinitionError

TEXT_MAX = 1_000
NUMBER_MAX = (1 << 63) - 1


def check_attribute(name: str, value: object) -> None:
    """Refuse what no store can keep and compare. Raises DefinitionError."""
    match value:
        case None | bool():
            return
        case str():
            problem = "" if len(value) <= TEXT_MAX else f"a text of {len(value):,} characters; at most {TEXT_MAX:,}"
            try:
                value.encode()
            except UnicodeEncodeError:
                problem = "not valid text"
        case int():
            problem = "" if abs(value) <= NUMBER_MAX else "too large a number"
        case float():
            problem = "" if math.isfinite(value) else f"not a number that can be compared ({value})"
        case _:
            problem = f"a {type(value).__name__}; use a text, a number, a flag, or None to take it away"
    if problem:
        raise DefinitionError(f"the search attribute {name!r} is {problem}")
