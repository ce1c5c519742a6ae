"""``cadenza check-deploy``: which runs would block on the code as it is now, before it is deployed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from cadenza.cli import exit_codes
from cadenza.cli.place import JsonOption, StoreOption, existing, reading
from cadenza.cli.streams import paint, print_json, say, show
from cadenza.engine.deploy_check import Verdict, check_runs, open_runs
from cadenza.errors import CadenzaError

NAMED_MAX = 5


def check_deploy(
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE|MODULE", help="Where the workflows are; this folder and the store's by default."),
    ] = None,
    *,
    store: StoreOption = "cadenza.db",
    as_json: JsonOption = False,
) -> None:
    """Replay every run that has not ended on the code of this folder, and say which would block. Nothing is written.

    Exit code 4 if some would block or fail at once.
    """
    from cadenza.cli import target

    for each in files or ():
        target.load(each)
    verdicts = asyncio.run(_verdicts(store))
    bad = [each for each in verdicts if each.outcome != "goes_on"]
    if as_json:
        print_json([{name: getattr(each, name) for name in each.__struct_fields__} for each in verdicts])
    else:
        _print(verdicts, bad)
    raise typer.Exit(exit_codes.BLOCKED if bad else exit_codes.OK)


async def _verdicts(store: str) -> list[Verdict]:
    from cadenza.cli import target

    folders = [Path.cwd(), existing(store).parent]
    async with reading(store) as engine:
        rows = open_runs(engine.store)
        problems: dict[str, str] = {}
        for workflow in dict.fromkeys(row.workflow for row in rows):
            try:
                target.load_for(workflow, folders)
            except CadenzaError as error:
                problems[workflow] = str(error)
        return list(check_runs(engine.store, rows, problems))


def _print(verdicts: list[Verdict], bad: list[Verdict]) -> None:
    groups: dict[tuple[str, ...], list[Verdict]] = {}
    for each in bad:
        groups.setdefault(
            (each.workflow, each.outcome, each.path, each.expected or each.problem, each.found), []
        ).append(each)
    for group in groups.values():
        _print_group(group)
    for each in verdicts:
        if each.note:
            say(f"{each.run_id} of {each.workflow} goes on otherwise: {each.note}", "yellow")
    if not verdicts:
        say("No run is under way.")
    elif not bad:
        say(f"{_runs(len(verdicts))} under way: all go on with this code.", "green")
    else:
        say(f"{len(bad)} of {_runs(len(verdicts))} under way would not go on with this code.", "red")


def _print_group(group: list[Verdict]) -> None:
    """Runs that part from the code at the same place."""
    first = group[0]
    does = "block" if first.outcome == "blocks" else "fail"
    where = f" at {first.path}" if first.path else ""
    ids = ", ".join(each.run_id for each in group[:NAMED_MAX]) + (" …" if len(group) > NAMED_MAX else "")
    show(paint(f"{_runs(len(group))} of {first.workflow} would {does}{where}", "bold red"))
    rows = [("runs", ids), ("expected", first.expected), ("found", first.found), ("code", first.where)]
    if not first.expected:
        rows.append(("problem", first.problem))
    rows.append(("mend", first.mend))
    for label, text in rows:
        if text:
            show(f"  {paint(f'{label:<9}', 'dim')} {text}")
    show()


def _runs(count: int) -> str:
    return f"{count:,} run{'' if count == 1 else 's'}"
