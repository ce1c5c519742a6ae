"""Which runs: conditions on a run's row and on its search attributes. Every store decides them alike."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import msgspec

from cadenza.durable.events import Scalar
from cadenza.durable.path import is_label
from cadenza.errors import UsageError

if TYPE_CHECKING:
    from cadenza.engine.store import RunRow

Comparison = Literal["=", "!=", "<", "<=", ">", ">="]
COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_TEXT = re.compile(r"\s*([^\s=!<>]+)\s*(<=|>=|!=|=|<|>)(.*)\Z", re.DOTALL)


def kind_of(value: Scalar) -> str:
    """Values of different kinds are never compared: ``"5"`` is neither equal to 5 nor greater."""
    return "flag" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"


class Condition(msgspec.Struct, frozen=True):
    """A search attribute compares so with a value. It holds for no run that lacks the attribute, also with ``!=``."""

    name: str
    comparison: Comparison
    value: Scalar

    def __post_init__(self) -> None:
        if not is_label(self.name):
            raise UsageError(f"{self.name!r} is no name of an attribute; use letters, digits, '_', '-' and '.'")
        if self.comparison not in get_args(Comparison):
            raise UsageError(f"{self.comparison!r} compares nothing; use one of {' '.join(get_args(Comparison))}")

    @classmethod
    def parse(cls, text: str) -> Condition:
        """A condition as people write it: ``topic=refund``, ``amount>10``, ``vip=true``, ``zip="0815"``.

        What reads as a JSON number, true, false or a quoted text is one; anything else is a text. Raises UsageError.
        """
        found = _TEXT.match(text)
        if found is None:
            raise UsageError(f"{text!r} is no condition. Write NAME=VALUE, or with != < <= > >=: 'amount>10'")
        name, comparison, raw = found.groups()
        raw = raw.strip()
        try:
            value = json.loads(raw)
        except ValueError:
            value = raw
        if not isinstance(value, str) and not (isinstance(value, int | float) and -LARGEST <= value <= LARGEST):
            value = raw
        return cls(name, cast("Comparison", comparison), value)

    def holds(self, attributes: Mapping[str, Scalar]) -> bool:
        """Whether it holds for a run with these attributes."""
        value = attributes.get(self.name)
        if value is None or kind_of(value) != kind_of(self.value):
            return False
        return COMPARISONS[self.comparison](value, self.value)


LARGEST = (1 << 63) - 1
"""Numbers beyond are kept by no database."""


class Filter(msgspec.Struct, frozen=True):
    """Which runs to list, newest first.

    Attributes:
        ended_before: ended earlier than this (microseconds since 1970); 0 is any.
        purgeable: has ended, and so has its parent, if there still is one.
        run_ids: one of these; any if empty.
    """

    status: tuple[str, ...] = ()
    workflow: str = ""
    parent: str = ""
    limit: int = 50
    attributes: tuple[Condition, ...] = ()
    ended_before: int = 0
    purgeable: bool = False
    run_ids: tuple[str, ...] = ()

    def admits(self, row: RunRow, attributes: Mapping[str, Scalar], parent: RunRow | None) -> bool:
        """Whether it names this run, whose parent has the row ``parent``, if there is one."""
        return (
            (not self.status or row.shown_status in self.status)
            and (not self.workflow or self.workflow in row.workflow)
            and (not self.parent or row.parent == self.parent)
            and (not self.run_ids or row.run_id in self.run_ids)
            and (not self.ended_before or 0 < row.ended_at < self.ended_before)
            and (not self.purgeable or (row.ended and row.ended_at > 0 and (parent is None or parent.ended)))
            and all(condition.holds(attributes) for condition in self.attributes)
        )
