"""``cadenza query``: read a run's view without waking it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from cadenza.cli.completion import RunArgument
from cadenza.cli.place import StoreOption, existing, reading
from cadenza.cli.streams import print_json
from cadenza.engine.store import RunRow

CodeOption = Annotated[
    str, typer.Option("--code", metavar="TARGET", help="The file or module of its workflow, if not in this folder.")
]


def query(
    run_id: RunArgument,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The view's name; not needed if it is the only one.")
    ] = "",
    *,
    code: CodeOption = "",
    store: StoreOption = "cadenza.db",
) -> None:
    """Read what a run shows of itself (ctx.view), whether it waits, runs, is blocked or has ended. Prints JSON."""

    async def main() -> None:
        async with reading(store) as engine:
            row = engine.find(run_id)
            load_code(row, code, store)
            print_json(await engine.query(row.run_id, name))

    asyncio.run(main())


def load_code(row: RunRow, code: str, store: str) -> None:
    """Import the workflow of a run. Raises UnknownName, UsageError."""
    from cadenza.cli import target

    if code:
        target.load(code.rpartition(":")[0] if ":" in code else code)
    target.load_for(row.workflow, [Path.cwd(), existing(store).parent])
