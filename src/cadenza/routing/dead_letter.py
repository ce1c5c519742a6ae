"""Calls that nobody could do: a list in the catalogue, until somebody has each of them done again.

What the call was given, and why each level failed, is the outcome of the step ``dead_letter`` in the run's journal,
which may be encrypted; the list has no payloads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from cadenza.durable.context import Context
from cadenza.durable.define import step, workflow
from cadenza.durable.events import StepCompleted
from cadenza.engine.catalogue import Catalogue, current_catalogue
from cadenza.engine.engine import Engine
from cadenza.engine.handle import RunHandle
from cadenza.errors import UnknownName, UsageError

COMPONENT, VERSION = "dead_letter", 1
COLUMNS = "id, run_id, path, agent, tried, at, redone_by"
ID_LENGTH = 10


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A call that every level has failed at.

    Attributes:
        path: of the step in the run's journal that has what was given and what was tried.
        agent: who was wanted; ``tried`` is how many were asked.
        at: when it was given up, in microseconds since 1970.
        redone_by: the run that does it again; empty if nobody has asked for that.
    """

    id: str
    run_id: str
    path: str
    agent: str
    tried: int
    at: int
    redone_by: str = ""


@dataclass(frozen=True, slots=True)
class Letter:
    """What the journal has of it; ``id`` is empty where the store cannot keep the list."""

    id: str
    agent: str
    input: Any
    tried: tuple[tuple[str, str], ...]


@step(name="dead_letter")
async def keep(agent: str, input: Any, tried: Sequence[Sequence[str]]) -> Letter:
    """Add a call to the list."""
    key = step.key()
    id = hashlib.blake2b(key.encode(), digest_size=ID_LENGTH // 2).hexdigest()
    run_id, _, path = key.split(":", 2)
    row = (id, run_id, path, agent, len(tried), step.scope.now(), "")
    catalogue = _with_tables(current_catalogue.get())
    catalogue.write(lambda c: c.execute(f"INSERT OR IGNORE INTO dead_letter ({COLUMNS}) VALUES (?,?,?,?,?,?,?)", row))
    return Letter(id, agent, input, tuple((who, why) for who, why in tried))


async def bury(ctx: Context, agent: str, input: Any, tried: Sequence[tuple[str, str]]) -> str:
    """Keep a call that nobody could do; returns the letter's id."""
    return (await ctx.step(keep, agent, input, [list(each) for each in tried])).id


def dead_letters(catalogue: Catalogue, *, all: bool = False) -> list[DeadLetter]:
    """Those that nobody has had done again, oldest first; or all of them. Raises StoreError."""
    where = "" if all else "WHERE redone_by = ''"
    rows = _with_tables(catalogue).read(f"SELECT {COLUMNS} FROM dead_letter {where} ORDER BY at, id")
    return [DeadLetter(*row) for row in rows]


async def redo(engine: Engine, id: str) -> RunHandle[Any]:
    """Start a run that calls the agent with the same input again.

    Args:
        id: of the letter, or its beginning.

    Raises:
        UnknownName: no such letter, or its run is not in the store any more. UsageError: it is being redone.
    """
    letters = dead_letters(engine.catalogue, all=True)
    found = [each for each in letters if each.id.startswith(id)] if id else []
    if len(found) != 1:
        raise UnknownName("dead letter", id, [each.id for each in letters])
    letter = found[0]
    if letter.redone_by:
        raise UsageError(f"dead letter {letter.id} is redone already, by run {letter.redone_by}")
    written = letter_in(engine, letter)
    given = {"agent": written.agent, "input": written.input}
    handle = await engine.start(redo_dead_letter, given, id=f"dead-letter-{letter.id}", on_conflict="join")
    row = (handle.run_id, letter.id)
    engine.catalogue.write(lambda c: c.execute("UPDATE dead_letter SET redone_by = ? WHERE id = ?", row))
    return handle


def letter_in(engine: Engine, letter: DeadLetter) -> Letter:
    """What the run's journal has of a letter. Raises UnknownName: the run was purged."""
    for event in engine.journal(letter.run_id):
        if isinstance(event, StepCompleted) and event.path == letter.path:
            return keep.result.decode(event.value, f"dead letter {letter.id}")
    raise UnknownName(
        "dead letter in the journal", letter.path, hint=f"The journal of run {letter.run_id} has no such step."
    )


@workflow(name="redo_dead_letter")
async def redo_dead_letter(ctx: Context, letter: dict[str, Any]) -> Any:
    """One call of an agent, once more."""
    return await ctx.call(letter["agent"], letter["input"])


def _with_tables(catalogue: Catalogue) -> Catalogue:
    catalogue.ensure(COMPONENT, VERSION, _tables())
    return catalogue


@cache
def _tables() -> str:
    return resources.files("cadenza.routing").joinpath("dead_letter_tables.sql").read_text(encoding="utf-8")
