"""``cadenza fork``, ``retry`` and ``reset``: a new run that goes on from the middle of another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from cadenza.cli.completion import RunArgument, run_ids
from cadenza.cli.place import JsonOption, StoreOption, existing, reading, store_flag
from cadenza.cli.selection import (
    Choice,
    DryRunOption,
    StatusOption,
    WhereOption,
    WorkflowOption,
    YesOption,
    filter_of,
    over_all,
)
from cadenza.cli.streams import print_json, say
from cadenza.cli.workers import say_who_goes_on
from cadenza.engine.engine import Engine
from cadenza.engine.handle import RunHandle
from cadenza.engine.store import RunRow
from cadenza.errors import UsageError

TargetArgument = Annotated[
    str, typer.Argument(metavar="TARGET", help="The file or module of its workflow, if it is not in this folder.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=JSON", help="An output instead of the one it had; may be repeated."),
]
RedoOption = Annotated[
    bool, typer.Option("--redo-irreversible", help="Irreversible work of the old run may be done once more.")
]
Begin = Callable[[Engine, RunRow], Awaitable[RunHandle[Any]]]


def fork(
    run_id: RunArgument,
    target: TargetArgument = "",
    *,
    at: Annotated[
        str, typer.Option("--at", metavar="PATH", help="The first path that is done anew, or an event's number.")
    ] = "",
    outputs: SetOption = None,
    redo_irreversible: RedoOption = False,
    store: StoreOption = "cadenza.db",
    as_json: JsonOption = False,
) -> None:
    """Start a new run from the middle of another, with other outputs if you like. The old run is not touched.

    \b
    cadenza fork 0f3k --at classify#1 --set 'classify#1={"label": "billing"}'
    """
    given = _given(outputs)

    async def begin(engine: Engine, row: RunRow) -> RunHandle[Any]:
        return await engine.fork(row.run_id, at=at, outputs=given, redo_irreversible=redo_irreversible)

    _start(begin, run_id, target, store, as_json=as_json)


def retry(
    run_id: Annotated[
        str, typer.Argument(metavar="RUN", autocompletion=run_ids, help="One run; left out if the options choose many.")
    ] = "",
    target: TargetArgument = "",
    *,
    redo_irreversible: RedoOption = False,
    where: WhereOption = None,
    status: StatusOption = None,
    workflow: WorkflowOption = "",
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    store: StoreOption = "cadenza.db",
    as_json: JsonOption = False,
) -> None:
    """Go on with a failed or cancelled run from where it failed, as a new run with the same business id.

    Of many runs, those that have failed are retried, unless --status says otherwise.
    """
    if (filter := filter_of(where, status, workflow, run_id)) is not None:
        folders = [Path.cwd(), existing(store).parent]

        async def again(engine: Engine, row: RunRow) -> None:
            from cadenza.cli import target as targets

            targets.load_for(row.workflow, folders)
            await engine.retry(row.run_id, redo_irreversible=redo_irreversible)

        named = filter if filter.status else msgspec.structs.replace(filter, status=("failed",))
        over_all(store, named, again, "retried", Choice(yes, dry_run, ended=True))
        return

    async def begin(engine: Engine, row: RunRow) -> RunHandle[Any]:
        return await engine.retry(row.run_id, redo_irreversible=redo_irreversible)

    _start(begin, run_id, target, store, as_json=as_json)


def reset(
    run_id: RunArgument,
    target: TargetArgument = "",
    *,
    to: Annotated[
        str, typer.Option("--to", metavar="PATH", help="The first path that is done anew, or an event's number.")
    ],
    outputs: SetOption = None,
    redo_irreversible: RedoOption = False,
    store: StoreOption = "cadenza.db",
    as_json: JsonOption = False,
) -> None:
    """Let a run go on from an earlier place, as a new run with the same business id; the old one is ended."""
    given = _given(outputs)

    async def begin(engine: Engine, row: RunRow) -> RunHandle[Any]:
        return await engine.reset(row.run_id, to=to, outputs=given, redo_irreversible=redo_irreversible)

    _start(begin, run_id, target, store, as_json=as_json)


def _given(outputs: list[str] | None) -> dict[str, Any]:
    """The outputs of ``--set``. Raises UsageError."""
    from cadenza.cli.target import read_json

    given: dict[str, Any] = {}
    for each in outputs or ():
        path, equals, text = each.partition("=")
        if not equals or not path:
            raise UsageError(f"--set {each!r} is not PATH=JSON; as in --set 'charge#1={{\"ok\": true}}'")
        given[path] = read_json(text, f"the output of {path}")
    return given


def _start(begin: Begin, run_id: str, target: str, store: str, *, as_json: bool) -> None:
    """Load the run's code, begin the new run, and say what it is."""
    from cadenza.cli import target as targets

    folders = [Path.cwd(), existing(store).parent]

    async def main() -> None:
        async with reading(store) as engine:
            old = engine.find(run_id)
            if target:
                targets.load(target.rpartition(":")[0] if ":" in target else target)
            targets.load_for(old.workflow, folders)
            new = (await begin(engine, old)).row
            if as_json:
                print_json({"run_id": new.run_id, "origin": old.run_id, "business_id": new.business_id})
                return
            say(f"Run {new.run_id} goes on from run {old.run_id}; it is a new run.", "green")
            if new.business_id:
                say(f"The id {new.business_id!r} is that of the new run now.")
            say(f"What it does: cadenza show {new.run_id}{store_flag(store)}", "dim")
            await say_who_goes_on(engine, new.run_id, store)

    asyncio.run(main())
