"""What was degraded: an answer that came from somebody else than who was wanted says so, in code and in the journal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from cadenza.durable.context import Context


@dataclass(frozen=True, slots=True)
class Degraded:
    """An answer of a fallback.

    Attributes:
        agent: who was wanted.
        served_by: the key of the instance that has answered, or the person's name.
        level: 1 for the first fallback.
        loses: what the answer lacks, as its mode says; empty where it says nothing.
        tried: pairs of who failed before, and why.
    """

    agent: str
    served_by: str
    level: int
    loses: str = ""
    tried: tuple[tuple[str, str], ...] = ()


_of_runs: WeakKeyDictionary[Any, list[Degraded]] = WeakKeyDictionary()


def degraded(ctx: Context) -> tuple[Degraded, ...]:
    """The answers in this generation of the run that came from a fallback, in the order in which they came."""
    return tuple(_of_runs.get(ctx._machine, ()))  # pyright: ignore[reportPrivateUsage]


def note(ctx: Context, record: Degraded) -> None:
    """Add a record; workflow code does this, so that replay does it again."""
    _of_runs.setdefault(ctx._machine, []).append(record)  # pyright: ignore[reportPrivateUsage]
