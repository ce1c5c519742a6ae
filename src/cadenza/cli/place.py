"""Which store a command works on, and the engine on it."""

from __future__ import annotations

import os
import shlex
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import typer

from cadenza.engine.engine import Engine
from cadenza.engine.options import EngineOptions
from cadenza.engine.store import Filter, RunRow
from cadenza.errors import NoStore, UsageError

DEFAULT = "cadenza.db"
MEMORY = ":memory:"
FAMILY_MAX = 1_000

StoreOption = Annotated[
    str,
    typer.Option(
        "--store", envvar="CADENZA_STORE", help="The store: a SQLite file.", show_envvar=False, metavar="FILE"
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def location(store: str) -> str | Path:
    """What Engine.open takes."""
    return store if store == MEMORY else Path(store).expanduser()


def existing(store: str) -> Path:
    """The path of a store that must be there. Raises NoStore, UsageError."""
    if store == MEMORY:
        raise UsageError("a store in memory ends with its process; there is nothing to read in it. Name a file.")
    path = Path(store).expanduser()
    if not path.exists():
        raise NoStore(str(path))
    return path


@asynccontextmanager
async def reading(store: str) -> AsyncGenerator[Engine]:
    """An engine that reads, starts and posts on a store that must be there, and runs nothing itself."""
    async with Engine.open(existing(store), EngineOptions(worker=False)) as engine:
        yield engine


def family(engine: Engine, row: RunRow) -> list[RunRow]:
    """A run and its children, their children and so on, parents first; at most 1,000."""
    found = [row]
    for parent in found:  # grows while it is read
        if len(found) >= FAMILY_MAX:
            break
        found += engine.runs(Filter(parent=parent.run_id, limit=FAMILY_MAX - len(found)))[::-1]
    return found


def store_flag(store: str) -> str:
    """What to add to a command that is suggested, so that it finds the same store."""
    usual = os.environ.get("CADENZA_STORE", DEFAULT)
    return "" if store == usual else f" --store {shlex.quote(store)}"
