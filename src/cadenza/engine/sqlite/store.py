"""A store in one SQLite file, shared by any number of processes of one machine."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec

from cadenza.durable.events import PAYLOAD_FIELDS, AnyEvent, decode_event
from cadenza.engine import store
from cadenza.engine.sqlite.commit import Writer
from cadenza.engine.sqlite.database import connect, errors_of
from cadenza.engine.sqlite.sql import queries
from cadenza.engine.store import SEQ_BITS, Filter, Letter, OpenTaskRow, OwnerRow, RunRow
from cadenza.errors import StoreCorrupt


class SQLiteStore:
    """Writes go to the writer's thread; reads are short, and are made on the caller's thread by a connection of their own.

    Args:
        path: the database file; created if it does not exist. ``<path>-locks/`` beside it holds lock files.

    Raises:
        StoreUnavailable, StoreCorrupt, StoreVersion: see errors.py.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.location = str(self.path)
        self.locks = Path(f"{self.path}-locks")
        self._writer = Writer(self.path, self.locks)
        self._reader = connect(self.path, writer=False)
        self._sql = queries()

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        self._writer.start(loop)

    def close(self) -> None:
        self._writer.stop()
        self._reader.close()

    def submit(self, operation: store.Operation[Any], done: store.Done, *, inline: bool = False) -> None:
        self._writer.put(operation, done, inline)

    def _all(self, name: str, bindings: Any = ()) -> list[Any]:
        with errors_of(self.path):
            return self._reader.execute(self._sql[name], bindings).fetchall()

    def events(self, no: int, first_seq: int = 1) -> list[AnyEvent]:
        return self._decoded(no, self._all("load_events", (no << SEQ_BITS | first_seq, (no + 1) << SEQ_BITS)))

    def last_event(self, no: int) -> AnyEvent:
        return self._decoded(no, self._all("last_event", (no << SEQ_BITS, (no + 1) << SEQ_BITS)))[0]

    def _decoded(self, no: int, rows: list[Any]) -> list[AnyEvent]:
        try:
            return [_joined(decode_event(event), body) for event, body in rows]
        except msgspec.MsgspecError as error:
            raise StoreCorrupt(self.location, f"an event of run number {no} cannot be read ({error})") from error

    def letters(self, no: int) -> list[Letter]:
        rows = self._all("unread_letters", (no,))
        return [Letter(id, decode_event(event), generation) for id, event, generation in rows]  # type: ignore[arg-type]  # only outcomes are posted

    def run(self, run_id: str) -> RunRow | None:
        rows = self._all("run_by_id", (run_id,)) or self._all("run_by_business_id", (run_id,))
        return RunRow(*rows[0]) if rows else None

    def runs(self, filter: Filter) -> list[RunRow]:
        bindings = {
            "any_status": not filter.status,
            "statuses": msgspec.json.encode(filter.status).decode(),
            "workflow": filter.workflow,
            "parent": filter.parent,
            "limit": filter.limit,
        }
        return [RunRow(*row) for row in self._all("list_children" if filter.parent else "list_runs", bindings)]

    def tasks(self, run_id: str = "") -> list[OpenTaskRow]:
        return [OpenTaskRow(*row) for row in self._all("tasks", (run_id,))]

    def mail(self, owner: str) -> list[int]:
        return [no for (no,) in self._all("mail", (owner,))]

    def next_due(self) -> int:
        return self._all("next_due")[0][0] or 0

    def owners(self) -> list[OwnerRow]:
        return [OwnerRow(*row) for row in self._all("owners")]

    def epoch(self, no: int) -> int:
        return self._all("epoch", (no,))[0][0]

    def version(self) -> int:
        return self._all("version")[0][0]


def _joined(event: AnyEvent, body: bytes | None) -> AnyEvent:
    if body is None:
        return event
    return msgspec.structs.replace(event, **{PAYLOAD_FIELDS[type(event)]: body})
