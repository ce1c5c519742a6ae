"""``cadenza update``: send a run a message and wait for its answer."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from cadenza.cli.completion import RunArgument
from cadenza.cli.place import StoreOption, reading
from cadenza.cli.streams import print_json
from cadenza.engine.update import UPDATE_S


def update(
    run_id: RunArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The update's name: ctx.on_update(NAME, …) handles it.")],
    value: Annotated[str | None, typer.Argument(metavar="JSON", help="Its value: JSON, @file.json, or -.")] = None,
    *,
    key: Annotated[str, typer.Option("--key", help="Handled once for each key; the same key, the same answer.")] = "",
    timeout: Annotated[float, typer.Option("--timeout", min=0, help="Seconds to wait for the answer.")] = UPDATE_S,
    store: StoreOption = "cadenza.db",
) -> None:
    """Send a run a message that it validates, handles and answers; prints the answer as JSON. A worker must run."""
    from cadenza.cli.target import read_json

    given = None if value is None else read_json(value, "the value")

    async def main() -> None:
        async with reading(store) as engine:
            print_json(await engine.update(run_id, name, given, key=key, timeout_s=timeout))

    asyncio.run(main())
