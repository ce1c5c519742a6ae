"""A store in one SQLite file, shared by any number of processes of one machine."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from cadenza.durable.events import AnyEvent, Scalar
from cadenza.engine import store
from cadenza.engine.sqlite.commit import Writer
from cadenza.engine.sqlite.database import close, connect, errors_of
from cadenza.engine.sqlite.listing import from_value, listing
from cadenza.engine.sqlite.payloads import Payloads
from cadenza.engine.sqlite.sealing import KeyRing
from cadenza.engine.sqlite.sql import queries
from cadenza.engine.store import SEQ_BITS, Filter, Letter, OpenTaskRow, OwnerRow, RunRow, no_such_run
from cadenza.engine.upkeep import AlertRow
from cadenza.errors import StoreCorrupt, UnknownName


class SQLiteStore:
    """Writes go to the writer's thread; reads are short, and are made on the caller's thread by a connection of their
    own.

    Args:
        path: the database file; created if it does not exist. ``<path>-locks/`` beside it holds lock files.
        keys: encrypt payloads; by default, the keys in the environment, if there are any.

    Raises:
        StoreUnavailable, StoreCorrupt, StoreVersion, KeyMissing: see errors/.
        UsageError: the keys in the environment cannot be read.
    """

    def __init__(self, path: str | Path, keys: KeyRing | None = None) -> None:
        self.path = Path(path)
        self.location = str(self.path)
        self.locks = Path(f"{self.path}-locks")
        keys = keys or KeyRing.from_environment()
        self._writer = Writer(self.path, self.locks, keys)
        self._payloads = Payloads(self.location, keys)
        self._reader = connect(self.path, writer=False)
        self._sql = queries()

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        self._writer.start(loop)

    def close(self) -> None:
        self._writer.stop()
        close(self._reader)

    def submit(self, operation: store.Operation[Any], done: store.Done, *, inline: bool = False) -> None:
        self._writer.put(operation, done, inline)

    def _all(self, name: str, bindings: Any = ()) -> list[Any]:
        with errors_of(self.path):
            return self._reader.execute(self._sql[name], bindings).fetchall()

    def events(self, no: int, first_seq: int = 1) -> list[AnyEvent]:
        first = no << SEQ_BITS | first_seq
        rows = self._all("load_events", (first, (no + 1) << SEQ_BITS))
        if rows and rows[-1][0] != first + len(rows) - 1:
            raise StoreCorrupt(self.location, f"the journal of run number {no} has a gap")
        return [self._payloads.read_event(*row) for row in rows]

    def last_event(self, no: int) -> AnyEvent:
        rows = self._all("last_event", (no << SEQ_BITS, (no + 1) << SEQ_BITS))
        if not rows and not self._all("run_by_no", (no,)):
            raise no_such_run(no)
        if not rows:
            raise StoreCorrupt(self.location, f"the journal of run number {no} is empty")
        return self._payloads.read_event(*rows[0])

    def letters(self, no: int) -> list[Letter]:
        rows = self._all("unread_letters", (no,))
        return [Letter(id, self._payloads.read_letter(no, raw), generation) for id, raw, generation in rows]

    def run(self, run_id: str) -> RunRow | None:
        rows = self._all("run_by_id", (run_id,)) or self._all("run_by_business_id", (run_id,))
        return self._payloads.read_run(rows[0]) if rows else None

    def runs(self, filter: Filter) -> list[RunRow]:
        statement, bindings = listing(filter)
        with errors_of(self.path):
            return [self._payloads.read_run(row) for row in self._reader.execute(statement, bindings).fetchall()]

    def attributes(self, numbers: Sequence[int]) -> dict[int, dict[str, Scalar]]:
        found: dict[int, dict[str, Scalar]] = {}
        for no, name, value in self._all("attributes", (msgspec.json.encode(numbers).decode(),)):
            found.setdefault(no, {})[name] = from_value(value)
        return found

    def copies(self, run_id: str) -> list[store.RunCopy]:
        with errors_of(self.path):
            self._reader.execute("BEGIN")
        try:
            row = self.run(run_id)
            if row is None:
                raise UnknownName("run", run_id)
            rows = [row]
            for parent in rows:  # grows while it is read
                rows += [self._payloads.read_run(each) for each in self._all("all_children", (parent.run_id,))]
            return [self._copy(each) for each in rows]
        finally:
            self._reader.execute("COMMIT")

    def _copy(self, row: RunRow) -> store.RunCopy:
        mail = [
            store.Mail(raw and self._payloads.read_letter(row.no, raw), key, generation)
            for raw, key, generation in self._all("all_mail", (row.no,))
        ]
        return store.RunCopy(row, tuple(self.events(row.no)), tuple(mail), tuple(self.tasks(row.run_id)))

    def tasks(self, run_id: str = "") -> list[OpenTaskRow]:
        rows = self._all("tasks", (run_id,))
        return [
            OpenTaskRow(id, path, self._payloads.read_task(no, path, raw), *rest) for no, id, path, raw, *rest in rows
        ]

    def alerts(self, now: int, limit: int) -> list[AlertRow]:
        return [
            AlertRow(id, run_id, workflow, status, self._payloads.read_detail(run_id, detail), *rest)
            for id, run_id, workflow, status, detail, *rest in self._all("alerts", (now, limit))
        ]

    def mail(self, owner: str) -> list[int]:
        return [no for (no,) in self._all("mail", (owner,))]

    def next_due(self, after: int = 0) -> int:
        return self._all("next_due", (after,))[0][0] or 0

    def owners(self) -> list[OwnerRow]:
        return [OwnerRow(*row) for row in self._all("owners")]

    def epoch(self, no: int) -> int:
        rows = self._all("epoch", (no,))
        return rows[0][0] if rows else 0

    def version(self) -> int:
        return self._all("version")[0][0]
