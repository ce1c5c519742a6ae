"""Deletes ended runs, in transactions that stay short.

The run itself, with its letters and attributes, goes at once: nobody finds it any more. Its journal may be long, and is
deleted piece by piece; a payload goes with the last event that refers to it. What is left after a crash is in the table
``purged``, and the next purge deletes it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from cadenza.engine.sqlite.database import Connection
from cadenza.engine.sqlite.listing import listing
from cadenza.engine.sqlite.sql import queries
from cadenza.engine.store import RunRow
from cadenza.engine.upkeep import Purge, Purged


class Purging:
    """Carries out purges on a connection that is inside of a transaction."""

    def __init__(self, connection: Connection) -> None:
        self._execute: Any = connection.cursor().execute
        self._sql = queries()

    def purge(self, operation: Purge) -> Purged:
        """First what is left of earlier purges, then as many runs as there is room for in one transaction."""
        room, run_ids = operation.events_max, list[str]()
        room -= self._sweep(room)
        filter = msgspec.structs.replace(operation.filter, purgeable=True, limit=operation.filter.limit + 1)
        statement, bindings = listing(filter, earliest_end_first=True)
        found = [RunRow(*row) for row in self._execute(statement, bindings).fetchall()]
        for row in found[: operation.filter.limit]:
            if room <= 0:
                break
            for name in ("purge_run", "purge_letters", "close_tasks", "purge_attributes", "purge_later"):
                self._execute(self._sql[name], (row.no,))
            run_ids.append(row.run_id)
            room -= self._sweep(room)
        more = len(found) > len(run_ids) or self._unswept() is not None
        return Purged(tuple(run_ids), operation.events_max - room, more)

    def _unswept(self) -> int | None:
        rows = self._execute(self._sql["unswept"]).fetchall()
        return rows[0][0] if rows else None

    def _sweep(self, events_max: int) -> int:
        """Delete up to so many events of purged runs; says how many."""
        deleted = 0
        while deleted < events_max and (no := self._unswept()) is not None:
            rows = self._execute(self._sql["sweepable_events"], (no, events_max - deleted)).fetchall()
            if rows:
                self._execute(self._sql["sweep_events"], (rows[0][0], rows[-1][0]))
                for digest in {digest for _, digest in rows if digest is not None}:
                    self._execute(self._sql["sweep_blob"], (digest,))
            deleted += len(rows)
            if deleted < events_max:
                self._execute(self._sql["swept"], (no,))
                self._execute(self._sql["forget_purged"])
        return deleted
