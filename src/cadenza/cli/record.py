"""``cadenza record``: a real run as an offline regression test."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from cadenza.cli.completion import RunArgument
from cadenza.cli.place import StoreOption, existing, family, reading
from cadenza.cli.streams import say
from cadenza.errors import UsageError


def record(
    run: RunArgument,
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="The file or module of its workflow, if it is not in this folder.")
    ] = "",
    *,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Where to write, for example tests/regression/x.json.")
    ],
    force: Annotated[bool, typer.Option("--force", help="Replace a recording that is there.")] = False,
    store: StoreOption = "cadenza.db",
) -> None:
    """Turn a run into a regression test: what it was told, and what its code asked for.

    The test plays it to the code of its day, calls nothing, and fails when a step call, a prompt, a tool call or a
    decision has changed. The recording holds the run's data in plain text.
    """
    path = Path(output).expanduser()
    if path.exists() and not force:
        raise UsageError(f"{path} is there already. Nothing was written; --force replaces it.")

    async def main() -> int:
        from cadenza.cli import target as targets
        from cadenza.testing.record import record_run

        async with reading(store) as engine:
            if target:
                targets.load(target.rpartition(":")[0] if ":" in target else target)
            row = engine.find(run)
            for each in family(engine, row):
                targets.load_for(each.workflow, [Path.cwd(), existing(store).parent])
            made = await record_run(engine, row.run_id, path)
            return sum(len(each["journal"]) for one in made["runs"] for each in one["generations"])

    count = asyncio.run(main())
    say(f"Recorded {count} events to {path}. In a test: cadenza.testing.assert_unchanged({str(path)!r})", "green")
