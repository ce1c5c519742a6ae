"""Who works on a store now, and whether somebody takes a run up."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from cadenza.cli.place import store_flag
from cadenza.cli.streams import say
from cadenza.engine.engine import Engine
from cadenza.engine.lease import dead_owners
from cadenza.engine.store import OwnerRow, RunRow

TAKEN_WITHIN_S = 0.5
LOOK_S = 0.02


def living(engine: Engine) -> list[OwnerRow]:
    """Processes that run workflows on this store: their lease holds, and on this host their file lock too."""
    owners = engine.store.owners()
    locks: Path | None = getattr(engine.store, "locks", None)
    dead = set(dead_owners(locks, owners, "") if locks is not None else ())
    now = engine.clock.now()
    return [each for each in owners if each.owner not in dead and each.expires_at >= now]


def is_stranded(row: RunRow, alive: set[str]) -> bool:
    """Whether a run counts as running, but its process is gone."""
    return row.status == "running" and row.owner not in alive


async def say_who_goes_on(engine: Engine, run_id: str, store: str) -> None:
    """After a run was sent something: say whether a worker takes it up, and else what to do."""
    row = engine.find(run_id)
    if row.status == "blocked":
        how = f"cadenza resume {row.root}{store_flag(store)}"
        say(f"Run {row.run_id} is blocked; it takes this when it goes on, after: {how}")
        return
    if living(engine):
        until_s = time.monotonic() + TAKEN_WITHIN_S
        while row.status == "ready" and time.monotonic() < until_s:
            await asyncio.sleep(LOOK_S)
            row = engine.find(run_id)
    alive = {each.owner for each in living(engine)}
    if row.ended:
        say(f"Run {row.run_id} is {row.status}.")
    elif row.status == "ready" or is_stranded(row, alive):
        say(f"No worker has taken the run up. Go on with: cadenza resume {row.root}{store_flag(store)}", "yellow")
    else:
        say(f"Run {row.run_id} goes on.", "dim")
