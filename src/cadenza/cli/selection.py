"""Many runs at once: which, whether to go on, and what became of them."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import msgspec
import typer

from cadenza.cli import exit_codes
from cadenza.cli.streams import is_interactive, print_json, say
from cadenza.engine.engine import Engine
from cadenza.engine.filter import Condition, Filter
from cadenza.engine.store import RunRow
from cadenza.errors import CadenzaError, UnknownName, UsageError

STATUSES = ("pending", "ready", "running", "waiting", "blocked", "completed", "failed", "cancelled")
OPEN = STATUSES[:5]
ALL = 1_000_000
TOGETHER = 64
TICK_S = 1.0
SHOWN = 10
UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}

WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        "--where", metavar="CONDITION", help="A search attribute: topic=refund, 'amount>10'. May be repeated: all hold."
    ),
]
StatusOption = Annotated[
    list[str] | None, typer.Option("--status", help=f"One of {', '.join(STATUSES)}; may be repeated.")
]
WorkflowOption = Annotated[str, typer.Option("--workflow", help="Only runs whose workflow's name contains this.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; for many runs at once.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say which runs it would be.")]


class Bulk(msgspec.Struct, frozen=True):
    """What became of many runs."""

    done: int
    failed: list[tuple[str, str]]


def conditions(where: list[str] | None) -> tuple[Condition, ...]:
    """The conditions that were written. Raises UsageError."""
    return tuple(Condition.parse(each) for each in where or ())


def statuses(given: list[str] | None) -> tuple[str, ...]:
    """The statuses that were written. Raises UnknownName."""
    for each in given or ():
        if each not in STATUSES:
            raise UnknownName("status", each, STATUSES)
    return tuple(given or ())


def seconds_of(text: str) -> float:
    """An age as people write it, in seconds: 30d, 12h, 90m, 45s, 2w. Raises UsageError."""
    number, unit = text[:-1], text[-1:]
    try:
        age_s = float(number) * UNITS_S[unit]
    except (ValueError, KeyError):
        raise UsageError(f"{text!r} is no age. Write a number and a unit: 30d, 12h, 90m, 45s or 2w") from None
    if not 0 <= age_s < 1e10:
        raise UsageError(f"{text!r} is no age that can be counted with")
    return age_s


def filter_of(where: list[str] | None, status: list[str] | None, workflow: str) -> Filter | None:
    """The runs that the options name; None if there is no such option."""
    if not (where or status or workflow):
        return None
    return Filter(statuses(status), workflow, limit=ALL, attributes=conditions(where))


def open_runs(engine: Engine, filter: Filter, *, children: bool) -> list[RunRow]:
    """Those of the filter's runs that have not ended, oldest first; children if wanted."""
    named = filter if filter.status else msgspec.structs.replace(filter, status=OPEN)
    return [row for row in engine.runs(named)[::-1] if not row.ended and (children or not row.parent)]


def confirm(rows: list[RunRow], what: str, *, yes: bool, dry_run: bool) -> bool:
    """Say how many runs it is, and whether to go on. Raises UsageError where nobody can be asked."""
    for row in rows[:SHOWN]:
        say(f"  {row.run_id}  {row.shown_status:<9}  {row.workflow}", "dim")
    if len(rows) > SHOWN:
        say(f"  … and {len(rows) - SHOWN:,} more", "dim")
    count = "1 run" if len(rows) == 1 else f"{len(rows):,} runs"
    if not rows or dry_run:
        say(f"{count} would be {what}. Nothing was done." if rows else "No runs are like that. Nothing was done.")
        return False
    if yes:
        return True
    if not is_interactive():
        raise UsageError(f"{count} would be {what}, and there is no terminal to ask at. Nothing was done. Add --yes")
    say(f"{count} will be {what}. Go on? [y/N] ", "bold")
    if sys.stdin.readline().strip().lower() in ("y", "yes"):
        return True
    say("Nothing was done.")
    return False


class Progress:
    """A line about once a second while something long goes on."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total, self._said_s = what, total, time.monotonic()

    def __call__(self, done: int) -> None:
        if time.monotonic() - self._said_s >= TICK_S:
            self._said_s = time.monotonic()
            say(f"{self._what}: {done:,} of {self._total:,}", "dim")


async def on_all(rows: list[RunRow], act: Callable[[RunRow], Awaitable[Any]], what: str) -> Bulk:
    """``act`` on each run, some at a time. One that fails does not stop the others."""
    failed: list[tuple[str, str]] = []
    progress = Progress(what, len(rows))

    async def one(row: RunRow) -> None:
        try:
            await act(row)
        except CadenzaError as error:
            failed.append((row.run_id, " ".join(str(error).split())))

    for start in range(0, len(rows), TOGETHER):
        await asyncio.gather(*(one(row) for row in rows[start : start + TOGETHER]))
        progress(min(start + TOGETHER, len(rows)))
    return Bulk(len(rows) - len(failed), failed)


def report_bulk(bulk: Bulk, what: str, *, as_json: bool = False) -> None:
    """Say what became of the runs. Raises typer.Exit if something failed."""
    if as_json:
        print_json({"done": bulk.done, "failed": [{"run_id": run_id, "error": why} for run_id, why in bulk.failed]})
    say(f"{bulk.done:,} {'run' if bulk.done == 1 else 'runs'} {what}.", "green" if not bulk.failed else "yellow")
    for run_id, why in bulk.failed[:SHOWN]:
        say(f"  {run_id}: {why}", "red")
    if len(bulk.failed) > SHOWN:
        say(f"  … and {len(bulk.failed) - SHOWN:,} more that failed", "red")
    if bulk.failed:
        raise typer.Exit(exit_codes.FAILED)
