"""``cadenza doctor``: looks over this machine, the folder of the store, the store, and the models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cadenza.cli import exit_codes
from cadenza.cli.place import JsonOption, StoreOption
from cadenza.cli.streams import paint, print_json, say, show
from cadenza.errors import UsageError

MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "problem": ("✗", "bold red")}


def doctor(
    targets: Annotated[
        list[str] | None, typer.Argument(metavar="TARGET", help="Files or modules whose agents' models are looked for.")
    ] = None,
    *,
    quick: Annotated[
        bool, typer.Option("--quick", help="Skip the integrity check, which reads the whole store.")
    ] = False,
    store: StoreOption = "cadenza.db",
    as_json: JsonOption = False,
) -> None:
    """Look over Python, SQLite, the disk, file locks, the store, its workers and blocked runs, and the models.

    Models are those of the agents in agents/ and in the TARGETs, and what this machine has.

    Exit code 1 if there is a problem; warnings alone are 0.
    """
    from cadenza.cli.checks_machine import machine_checks, place_checks
    from cadenza.cli.checks_models import model_checks
    from cadenza.cli.checks_store import store_checks

    if store == ":memory:":
        raise UsageError("a store in memory needs no doctor; name a file")
    path = Path(store).expanduser()
    found = [*machine_checks(), *place_checks(path)]
    found += store_checks(path, quick=quick)
    found += model_checks(Path.cwd(), targets or ())
    if as_json:
        print_json([{"check": each.name, "state": each.state, "detail": each.detail} for each in found])
    else:
        width = max(len(each.name) for each in found)
        for each in found:
            mark, style = MARKS[each.state]
            show(f"{paint(mark, style)} {each.name:<{width}}  {each.detail}")
        problems = sum(each.state == "problem" for each in found)
        warnings = sum(each.state == "warning" for each in found)
        if problems:
            say(f"{problems} problem{'s' if problems > 1 else ''}.", "bold red")
        elif warnings:
            say(f"It works; {warnings} thing{'s' if warnings > 1 else ''} to know.", "yellow")
        else:
            say("All is well.", "green")
    raise typer.Exit(exit_codes.FAILED if any(each.state == "problem" for each in found) else exit_codes.OK)
