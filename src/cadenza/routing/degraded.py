"""What was degraded: an answer that came from somebody else than who was wanted says so, in code and in the journal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from cadenza.durable import events
from cadenza.durable.context import Context
from cadenza.durable.define import step


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

    def __str__(self) -> str:
        loses = f", without {self.loses}" if self.loses else ""
        return f"{self.agent}: answered by {self.served_by}{loses}; {len(self.tried)} failed before"


@step(name="degraded", effect="read")
async def degrade(record: Degraded) -> Degraded:
    """Put a record into the journal, for those who read it."""
    return record


def degraded_in(journal: Iterable[events.AnyEvent]) -> list[Degraded]:
    """The records of a run, as its journal has them."""
    found = [each for each in journal if isinstance(each, events.StepCompleted) and each.name == degrade.name]
    return [degrade.result.decode(each.value, f"the record at {each.path}") for each in found]


_of_runs: WeakKeyDictionary[Any, list[Degraded]] = WeakKeyDictionary()


def degraded(ctx: Context) -> tuple[Degraded, ...]:
    """The answers in this generation of the run that came from a fallback, in the order in which they came."""
    return tuple(_of_runs.get(ctx._machine, ()))  # pyright: ignore[reportPrivateUsage]


def note(ctx: Context, record: Degraded) -> None:
    """Add a record; workflow code does this, so that replay does it again."""
    _of_runs.setdefault(ctx._machine, []).append(record)  # pyright: ignore[reportPrivateUsage]
