"""``cadenza runs``: the list of runs."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

import typer

from cadenza.cli.board import seconds
from cadenza.cli.place import JsonOption, StoreOption, reading, store_flag
from cadenza.cli.streams import out, print_json, say
from cadenza.cli.workers import is_stranded, living
from cadenza.engine.engine import Engine
from cadenza.engine.store import Filter, RunRow
from cadenza.errors import UnknownName

STATUSES = ("pending", "ready", "running", "waiting", "blocked", "completed", "failed", "cancelled")
STYLES = {
    "completed": "green", "failed": "red", "cancelled": "dim", "blocked": "bold red", "waiting": "magenta",
    "running": "cyan", "stranded": "yellow",
}  # fmt: skip


def runs(
    *,
    status: Annotated[
        list[str] | None, typer.Option("--status", help=f"One of {', '.join(STATUSES)}; may be repeated.")
    ] = None,
    workflow: Annotated[str, typer.Option("--workflow", help="Only runs whose workflow's name contains this.")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many at most, newest first.")] = 20,
    children: Annotated[bool, typer.Option("--children", help="List child runs too.")] = False,
    store: StoreOption = "cadenza.db",
    as_json: JsonOption = False,
) -> None:
    """List runs, newest first."""
    statuses = tuple(status or ())
    for each in statuses:
        if each not in STATUSES:
            raise UnknownName("status", each, STATUSES)

    async def main() -> None:
        async with reading(store) as engine:
            found, hidden, more = _find(engine, Filter(statuses, workflow, limit=limit), children)
            alive = {each.owner for each in living(engine)}
        if as_json:
            print_json([as_dict(row, alive) for row in found])
        else:
            _print(found, hidden, more, alive, store)

    asyncio.run(main())


def _find(engine: Engine, filter: Filter, children: bool) -> tuple[list[RunRow], int, bool]:
    """The runs, how many child runs were left out, and whether there are more."""
    limit = filter.limit
    asked = limit + 1
    while True:
        rows = engine.runs(Filter(filter.status, filter.workflow, limit=asked))
        roots = rows if children else [row for row in rows if not row.parent]
        if len(roots) > limit or len(rows) < asked:
            shown = roots[:limit]
            last = shown[-1].no if shown else 0
            hidden = 0 if children else sum(bool(row.parent) and row.no > last for row in rows)
            return shown, hidden, len(roots) > limit
        asked *= 4


def status_of(row: RunRow, alive: set[str]) -> str:
    """The status, with a word of its own for a run whose process is gone."""
    return "stranded" if is_stranded(row, alive) else row.shown_status


def as_dict(row: RunRow, alive: set[str]) -> dict[str, Any]:
    """A run, as scripts see it. Times are microseconds since 1970; 0 is never."""
    return {
        "run_id": row.run_id,
        "business_id": row.business_id,
        "workflow": row.workflow,
        "status": row.shown_status,
        "stranded": is_stranded(row, alive),
        "generation": row.generation,
        "priority": row.priority,
        "parent": row.parent,
        "created_at": row.created_at,
        "ended_at": row.ended_at,
        "wake_at": row.wake_at,
        "owner": row.owner,
        "detail": row.detail,
    }


def _print(found: list[RunRow], hidden: int, more: bool, alive: set[str], store: str) -> None:
    from rich import box
    from rich.table import Table

    if not found:
        say("No runs." if not hidden else "No runs but children: --children lists them.")
        return
    now = time.time_ns() // 1_000
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=False)
    table.add_column("run", no_wrap=True)
    if any(row.business_id for row in found):
        table.add_column("id", no_wrap=True, max_width=28, overflow="ellipsis")
    table.add_column("workflow", no_wrap=True, max_width=36, overflow="ellipsis")
    table.add_column("status", no_wrap=True)
    table.add_column("began", no_wrap=True)
    table.add_column("took", no_wrap=True, justify="right")
    details = any(row.detail for row in found)
    if details:
        table.add_column("detail", no_wrap=True, overflow="ellipsis", ratio=1)
    from rich.text import Text

    for row in found:
        status = status_of(row, alive)
        cells = [Text(row.run_id)]
        if len(table.columns) - details == 6:
            cells.append(Text(row.business_id))
        took = seconds((row.ended_at or now) - row.created_at)
        began = f"{seconds(now - row.created_at)} ago"
        cells += [Text(row.workflow), Text(status, STYLES.get(status, "")), Text(began), Text(took)]
        if details:
            cells.append(Text(" ".join(row.detail.split())))
        table.add_row(*cells)
    out().print(table)
    _print_notes(found, hidden, more, alive, store)


def _print_notes(found: list[RunRow], hidden: int, more: bool, alive: set[str], store: str) -> None:
    if more:
        say("There are older ones: --limit N", "dim")
    if hidden:
        say(f"{hidden} child runs are not listed: --children", "dim")
    stranded = [row for row in found if is_stranded(row, alive)]
    if stranded:
        say(
            "stranded: the process that ran it is gone; the next worker takes it up, or: "
            f"cadenza resume {stranded[0].root}{store_flag(store)}",
            "yellow",
        )
