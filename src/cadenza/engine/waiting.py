"""Waiting for runs to end, whoever drives them.

Runs of this process tell their end at once; runs of others are looked up when the store has changed.
"""

from __future__ import annotations

import asyncio

import msgspec

from cadenza.durable import events
from cadenza.engine.runner import End, Runner
from cadenza.engine.store import RunRow, Store
from cadenza.errors import UnknownName


class Ended(msgspec.Struct, frozen=True):
    """How a run has ended: its last event, or None and a ``detail`` if it is blocked."""

    last: events.AnyEvent | None
    detail: str = ""


class Waiting:
    """Who waits for which run."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiters: dict[str, list[asyncio.Future[Ended]]] = {}
        self._version = -1

    def __bool__(self) -> bool:
        return bool(self._waiters)

    def how_ended(self, row: RunRow) -> Ended | None:
        """How a run has ended; None if it goes on."""
        if row.status == "blocked":
            return Ended(None, row.detail)
        return Ended(self._store.last_event(row.no)) if row.ended else None

    def add(self, run_id: str) -> asyncio.Future[Ended]:
        waiter: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(run_id, []).append(waiter)
        return waiter

    def look(self, here: set[str]) -> None:
        """See what became of runs that others drive; ``here`` are those of this process. Raises StoreError."""
        if not self._waiters or (version := self._store.version()) == self._version:
            return
        self._version = version
        for run_id in [each for each in self._waiters if each not in here]:
            row = self._store.run(run_id)
            if row is None:
                self.fail(UnknownName("run", run_id), run_id)
            elif (ended := self.how_ended(row)) is not None:
                self._tell(run_id, ended)

    def run_ended(self, runner: Runner, end: End, error: Exception | None) -> None:
        """A run of this process has left memory."""
        run_id = runner.row.run_id
        if run_id not in self._waiters:
            return
        if end == "ended":
            self._tell(run_id, Ended(runner.last))
        elif end == "blocked":
            self._tell(run_id, Ended(None, runner.detail))
        elif end == "broken" and error is not None:
            self.fail(error, run_id)
        else:
            self._version = -1  # it may have ended elsewhere, before the last look

    def _tell(self, run_id: str, ended: Ended) -> None:
        for waiter in self._waiters.pop(run_id, ()):
            if not waiter.done():
                waiter.set_result(ended)

    def fail(self, error: Exception, run_id: str = "") -> None:
        """Tell those who wait for a run, or all, that they wait in vain."""
        for each in [run_id] if run_id else list(self._waiters):
            for waiter in self._waiters.pop(each, ()):
                if not waiter.done():
                    waiter.set_exception(error)

    def close(self) -> None:
        for waiters in self._waiters.values():
            for waiter in waiters:
                waiter.cancel()
