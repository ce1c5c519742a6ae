"""Purges ended runs: on request, and by a worker when they are older than its retention says.

Every batch is a short transaction of its own, and other writers come in between two. A batch is of one status, because
the ends of each are in order in the database.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from cadenza.engine.environment import Environment
from cadenza.engine.filter import Filter
from cadenza.engine.options import Retention
from cadenza.engine.store import ENDED, perform
from cadenza.engine.upkeep import Purge, Purged

if TYPE_CHECKING:
    from cadenza.engine.engine import Engine

log = logging.getLogger("cadenza")
DAY_US = 86_400_000_000
BATCH = 50
PAUSE_S = 60.0
"""Between two looks for runs that have become too old."""
BATCH_PAUSE_S = 0.05


async def purge(engine: Engine, filter: Filter, progress: Callable[[int], None] = lambda _: None) -> Purged:
    """See Engine.purge. The earliest ends come first within a status."""
    run_ids, events = list[str](), 0
    for status in filter.status or ENDED:
        part = msgspec.structs.replace(filter, status=(status,), limit=BATCH)
        more = status in ENDED
        while more:
            purged = await perform(engine.store, Purge(part))
            run_ids += purged.run_ids
            events += purged.events
            more = purged.more
            progress(len(run_ids))
    return Purged(tuple(run_ids), events)


def due(retention: Retention, now: int) -> list[Filter]:
    """Which runs are too old ``now`` (microseconds since 1970)."""
    days = {
        "completed": retention.completed_days,
        "failed": retention.failed_days,
        "cancelled": retention.cancelled_days,
    }
    return [
        Filter((status,), ended_before=max(1, now - round(kept * DAY_US)), limit=BATCH)
        for status, kept in days.items()
        if kept is not None
    ]


class Sweeper:
    """A worker's part: one batch at a time, with a pause after each, and a long one when nothing is left to do."""

    def __init__(self, env: Environment) -> None:
        self._env = env
        self._filters: list[Filter] = []
        self._next_s = 0.0 if due(env.options.retention, 0) else float("inf")
        self._busy = False

    def look(self) -> None:
        """Begin a batch if it is time; called on the pulse."""
        if self._busy or self._env.clock.elapsed_s() < self._next_s:
            return
        if not self._filters:
            self._filters = due(self._env.options.retention, self._env.clock.now())
        self._busy = True
        self._env.store.submit(Purge(self._filters[0]), self._done)

    def _done(self, purged: Purged | None, error: Exception | None) -> None:
        self._busy = False
        if error is not None:
            log.warning("runs that are older than the retention were not purged: %s", error)
            self._filters.clear()
        elif purged is not None:
            for run_id in purged.run_ids:
                log.info("run %s was purged: it is older than the retention", run_id)
            if not purged.more:
                self._filters.pop(0)
        self._next_s = self._env.clock.elapsed_s() + (BATCH_PAUSE_S if self._filters else PAUSE_S)
