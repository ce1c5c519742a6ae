"""``cadenza runs``: the list of runs."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Annotated, Any

import msgspec
import typer

from cadenza.cli.board import seconds
from cadenza.cli.place import JsonOption, StoreOption, reading, store_flag
from cadenza.cli.selection import StatusOption, WhereOption, WorkflowOption, conditions, statuses
from cadenza.cli.streams import clean, out, print_json, say
from cadenza.cli.workers import is_stranded, living
from cadenza.durable.events import Scalar
from cadenza.engine.engine import Engine
from cadenza.engine.store import Filter, RunRow

NARROW = 100
WIDTHS_MAX = {"id": 28, "workflow": 40, "attributes": 40}
STYLES = {
    "completed": "green", "failed": "red", "cancelled": "dim", "blocked": "bold red", "waiting": "magenta",
    "running": "cyan", "stranded": "yellow",
}  # fmt: skip


def runs(
    *,
    status: StatusOption = None,
    workflow: WorkflowOption = "",
    where: WhereOption = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many at most, newest first.")] = 20,
    children: Annotated[bool, typer.Option("--children", help="List child runs too.")] = False,
    store: StoreOption = "cadenza.db",
    as_json: JsonOption = False,
) -> None:
    """List runs, newest first."""
    filter = Filter(statuses(status), workflow, limit=limit, attributes=conditions(where))

    async def main() -> None:
        async with reading(store) as engine:
            found, hidden, more = _find(engine, filter, children)
            attributes = engine.store.attributes([row.no for row in found])
            alive = {each.owner for each in living(engine)}
        if as_json:
            print_json([as_dict(row, alive) | {"attributes": attributes.get(row.no, {})} for row in found])
        else:
            _print(found, hidden, more, alive, store, attributes)

    asyncio.run(main())


def _find(engine: Engine, filter: Filter, children: bool) -> tuple[list[RunRow], int, bool]:
    """The runs, how many child runs were left out, and whether there are more."""
    limit = filter.limit
    asked = limit + 1
    while True:
        rows = engine.runs(msgspec.structs.replace(filter, limit=asked))
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


def _print(
    found: list[RunRow],
    hidden: int,
    more: bool,
    alive: set[str],
    store: str,
    attributes: dict[int, dict[str, Scalar]],
) -> None:
    if not found:
        say("No runs." if not hidden else "No runs but children: --children lists them.")
        return
    now = time.time_ns() // 1_000
    columns: dict[str, list[str]] = {
        "run": [row.run_id for row in found],
        "id": [clean(row.business_id) for row in found],
        "workflow": [row.workflow for row in found],
        "status": [status_of(row, alive) for row in found],
        "began": [f"{seconds(now - row.created_at)} ago" for row in found],
        "took": [seconds((row.ended_at or now) - row.created_at) for row in found],
        "attributes": [clean(_written(attributes.get(row.no, {}))) for row in found],
        "detail": [clean(" ".join(row.detail.split())) for row in found],
    }
    _print_table({name: cells for name, cells in columns.items() if any(cells)})
    _print_notes(found, hidden, more, alive, store)


def _written(attributes: dict[str, Scalar]) -> str:
    """Attributes as ``--where`` takes them."""
    return " ".join(
        f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in attributes.items()
    )


def _print_table(columns: dict[str, list[str]]) -> None:
    """Columns as wide as they need to be, as far as the terminal is; the detail has what is left."""
    from rich.text import Text

    console = out()
    if console.width < NARROW:
        columns.pop("began", None)
    widths = {name: max(len(name), *map(len, cells)) for name, cells in columns.items()}
    for name, width_max in WIDTHS_MAX.items():
        if name in widths:
            widths[name] = min(widths[name], width_max // (2 if console.width < NARROW else 1))
    if "detail" in widths:
        used = sum(width + 2 for name, width in widths.items() if name != "detail")
        widths["detail"] = max(10, console.width - used)
    console.print(
        Text("  ".join(f"{name:<{width}}" for name, width in widths.items()).rstrip(), "bold dim"), no_wrap=True
    )
    for cells in zip(*columns.values(), strict=True):
        line = Text()
        for (name, width), cell in zip(widths.items(), cells, strict=True):
            shown = cell if len(cell) <= width else f"{cell[: width - 1]}…"
            line.append(f"{shown:>{width}}  " if name == "took" else f"{shown:<{width}}  ", STYLES.get(cell, ""))
        line.rstrip()
        console.print(line, no_wrap=True, overflow="ellipsis")


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
