"""Search attributes: small values beside a run, by which lists and bulk commands find it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from cadenza.durable import commands
from cadenza.durable.events import Scalar
from cadenza.durable.path import current_branch
from cadenza.errors import DefinitionError

if TYPE_CHECKING:
    from cadenza.durable.machine import Machine

TEXT_MAX = 1_000
NUMBER_MAX = (1 << 63) - 1
ATTRIBUTES_MAX = 64


class Attributes:
    """The names that a generation has set: a run has a bounded number of them."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._names: set[str] = set()

    def set(self, values: dict[str, Scalar | None]) -> None:
        self._machine.refuse_if_over()
        self._names.update(values)
        if len(self._names) > ATTRIBUTES_MAX:
            raise DefinitionError(f"a run has at most {ATTRIBUTES_MAX} search attributes; this one sets more")
        self._machine.record(commands.SetAttributes(current_branch.get().leaf("@attributes"), values))


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
