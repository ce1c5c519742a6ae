"""Many runs at once: which, whether to go on, and what became of them."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Annotated

import msgspec
import typer

from cadenza.cli import exit_codes
from cadenza.cli.place import reading
from cadenza.cli.streams import is_interactive, say
from cadenza.cli.workers import living
from cadenza.engine.bulk import Bulk, on_all
from cadenza.engine.engine import Engine
from cadenza.engine.filter import Condition, Filter
from cadenza.engine.store import RunRow
from cadenza.errors import UnknownName, UsageError

STATUSES = ("pending", "ready", "running", "waiting", "blocked", "completed", "failed", "cancelled")
OPEN = STATUSES[:5]
ALL = 1_000_000
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
ChildrenOption = Annotated[bool, typer.Option("--children", help="Child runs too; for many runs at once.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say which runs it would be.")]


class Choice(msgspec.Struct, frozen=True):
    """What was said about many runs."""

    yes: bool
    dry_run: bool
    children: bool = False
    ended: bool = False


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


def filter_of(where: list[str] | None, status: list[str] | None, workflow: str, run_id: str = "") -> Filter | None:
    """The runs that the options name; None if there is no such option, but a ``run_id``.

    Raises UsageError: both, or neither.
    """
    if not (where or status or workflow):
        if not run_id:
            raise UsageError("say which: RUN, or many by --where, --status, --workflow")
        return None
    if run_id:
        raise UsageError(f"{run_id!r} is one run, and the options name many; say one or the other")
    return Filter(statuses(status), workflow, limit=ALL, attributes=conditions(where))


def chosen_runs(engine: Engine, filter: Filter, choice: Choice) -> list[RunRow]:
    """Those of the filter's runs that have ended, or those that have not, oldest first; children if wanted."""
    named = filter if filter.status or choice.ended else msgspec.structs.replace(filter, status=OPEN)
    return [
        row for row in engine.runs(named)[::-1] if row.ended == choice.ended and (choice.children or not row.parent)
    ]


def confirm(rows: list[RunRow], what: str, *, yes: bool, dry_run: bool) -> bool:
    """Say how many runs it is, and whether to go on. Raises UsageError where nobody can be asked."""
    for row in rows[:SHOWN]:
        say(f"  {row.run_id}  {row.shown_status:<9}  {row.workflow}", "dim")
    if len(rows) > SHOWN:
        say(f"  … and {len(rows) - SHOWN:,} more", "dim")
    count = _count(len(rows))
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


def over_all(
    store: str, filter: Filter, act: Callable[[Engine, RunRow], Awaitable[None]], what: str, choice: Choice
) -> None:
    """Choose runs, ask, ``act`` on each, and say what became of them.

    Raises:
        UsageError: nobody can be asked. typer.Exit: it could not be done to all of them.
    """

    async def main() -> None:
        async with reading(store) as engine:
            rows = chosen_runs(engine, filter, choice)
            if not confirm(rows, what, yes=choice.yes, dry_run=choice.dry_run):
                return
            bulk = await on_all(rows, lambda row: act(engine, row), Progress(what, len(rows)))
            if not living(engine):
                say("No worker runs on this store. They go on when one does: cadenza worker FILE", "yellow")
            report_bulk(bulk, what)

    asyncio.run(main())


def report_bulk(bulk: Bulk, what: str) -> None:
    """Say what became of the runs. Raises typer.Exit if something failed."""
    say(f"{_count(bulk.done)} {what}.", "yellow" if bulk.failed else "green")
    for run_id, why in bulk.failed[:SHOWN]:
        say(f"  {run_id}: {' '.join(str(why).split())}", "red")
    if len(bulk.failed) > SHOWN:
        say(f"  … and {len(bulk.failed) - SHOWN:,} more that failed", "red")
    if bulk.failed:
        raise typer.Exit(exit_codes.FAILED)


def _count(number: int) -> str:
    return "1 run" if number == 1 else f"{number:,} runs"
