"""``cadenza purge`` and ``cadenza vacuum``: delete ended runs, and give their space back."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated

import typer

from cadenza.cli.place import JsonOption, StoreOption, existing, reading, store_flag
from cadenza.cli.selection import (
    ALL,
    DryRunOption,
    Progress,
    StatusOption,
    WhereOption,
    WorkflowOption,
    YesOption,
    conditions,
    confirm,
    seconds_of,
    statuses,
)
from cadenza.cli.streams import print_json, say
from cadenza.engine.engine import Engine
from cadenza.engine.filter import Filter
from cadenza.engine.store import ENDED, RunRow
from cadenza.errors import UsageError

BYTES_A_SECOND = 50_000_000
"""A vacuum's pace on a slow disk."""


def purge(
    run_ids: Annotated[
        list[str] | None, typer.Argument(metavar="RUN...", help="Runs by id; or choose them by the options.")
    ] = None,
    *,
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="AGE", help="Ended longer ago than this: 30d, 12h, 90m.")
    ] = "",
    status: StatusOption = None,
    workflow: WorkflowOption = "",
    where: WhereOption = None,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    store: StoreOption = "cadenza.db",
    as_json: JsonOption = False,
) -> None:
    """Delete ended runs: journal, messages, attributes, and payloads that no other run has.

    A run that has not ended is never deleted, nor one whose parent has not ended.

    \b
    cadenza purge --older-than 30d --status completed
    """
    if not (run_ids or older_than or status or workflow or where):
        raise UsageError("say which runs: RUN, --older-than 30d, --status completed, --workflow NAME, --where a=b")
    chosen = statuses(status)
    if not_ended := [each for each in chosen if each not in ENDED]:
        raise UsageError(f"only ended runs are purged; {not_ended[0]} is none of {', '.join(ENDED)}")
    before = 0 if not older_than else max(1, time.time_ns() // 1_000 - round(seconds_of(older_than) * 1_000_000))

    async def main() -> None:
        async with reading(store) as engine:
            named = tuple(_purgeable(engine, each).run_id for each in run_ids or ())
            filter = Filter(chosen, workflow, "", ALL, conditions(where), before, purgeable=True, run_ids=named)
            rows = engine.runs(filter)[::-1]
            if not confirm(rows, "purged", yes=yes or bool(run_ids), dry_run=dry_run):
                if as_json:
                    print_json({"purged": [], "found": len(rows), "events": 0})
                return
            purged = await engine.purge(filter, Progress("purged", len(rows)))
            if as_json:
                print_json({"purged": list(purged.run_ids), "found": len(rows), "events": purged.events})
            count = len(purged.run_ids)
            say(f"Purged {count:,} {'run' if count == 1 else 'runs'} with {purged.events:,} events.", "green")
            say(f"Their space is used again; to make the file smaller: cadenza vacuum{store_flag(store)}", "dim")

    asyncio.run(main())


def _purgeable(engine: Engine, run_id: str) -> RunRow:
    """The run of this id. Raises UnknownName, and UsageError that says why it cannot be purged."""
    row = engine.find(run_id)
    if not row.ended:
        raise UsageError(f"run {row.run_id} is {row.shown_status}; only ended runs are purged. Nothing was done")
    parent = engine.store.run(row.parent) if row.parent else None
    if parent is not None and not parent.ended:
        raise UsageError(f"run {row.run_id} is a child of {parent.run_id}, which is {parent.status}. Nothing was done")
    return row


def vacuum(*, store: StoreOption = "cadenza.db", as_json: JsonOption = False) -> None:
    """Make the store's file as small as what it holds.

    Workers may go on meanwhile, but their writes wait. It needs room for two more copies of what the file holds.
    """
    from cadenza.engine.sqlite.vacuum import free_bytes, vacuum

    path = existing(store)

    async def open_once() -> None:
        async with reading(store):  # a newer or foreign file is refused, an old one is migrated
            pass

    asyncio.run(open_once())
    free, held = free_bytes(path)
    say(f"{free:,} bytes are free in the file, {held:,} are held. Writing those anew …", "dim")
    if held > 10 * BYTES_A_SECOND:
        say(f"It may take {held / BYTES_A_SECOND:,.0f} s. Other writers wait; nothing is lost if it is stopped.")
    began_s = time.monotonic()
    done = vacuum(path, path.with_name(f"{path.name}-locks"))
    took_s = time.monotonic() - began_s
    if as_json:
        print_json({"before_bytes": done.before_bytes, "after_bytes": done.after_bytes, "took_s": round(took_s, 3)})
    say(f"{done.before_bytes:,} bytes before, {done.after_bytes:,} after; it took {took_s:.1f} s.", "green")
    if not done.checkpointed:
        say("Somebody reads the file now: it shrinks when the next write has been folded in.", "yellow")
