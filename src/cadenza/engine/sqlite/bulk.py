"""Plain appends of many runs in a few statements.

Each statement gives up the interpreter's lock and has to win it back, which costs more than the statement. When many
runs
have something to write at the same time, their fences are read by one query and their events written by few inserts.
Appends that carry more than small events, and second ones of a run, are left to ``Operations``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from cadenza.durable.events import encode_event, payload_bytes
from cadenza.engine.sqlite.database import Connection
from cadenza.engine.sqlite.payloads import Payloads, event_at
from cadenza.engine.sqlite.sql import queries
from cadenza.engine.store import (
    BLOB_BYTES_MIN,
    SEQ_BITS,
    SEQ_MASK,
    Append,
    Claim,
    Operation,
    Reclaim,
    Retire,
    Terminate,
)
from cadenza.engine.upkeep import Purge

APPENDS_MIN = 8
ROWS = 100
MOVES_OWNERS = (Claim, Purge, Reclaim, Retire, Terminate)
"""After one of these an append may be refused that would not have been before: those behind it keep their place."""
Row = tuple[int, bytes]


class BulkAppends:
    """Carries out what it can of a batch, inside of the writer's transaction, in any order: none of it is
    acknowledged yet."""

    def __init__(self, connection: Connection, payloads: Payloads) -> None:
        self._keys = payloads.keys
        self._execute: Any = connection.execute
        self._sql = queries()
        self._insert = "INSERT INTO journal (id, event) VALUES "

    def carry_out(self, operations: Sequence[Operation[Any]]) -> set[int]:
        """Which appends of the batch were carried out, by their places in it."""
        plain = self._plain(operations)
        if len(plain) < APPENDS_MIN:
            return set()
        wanted = msgspec.json.encode([append.no for _, append, _ in plain]).decode()
        found = {no: rest for no, *rest in self._execute(self._sql["fences"], (wanted,))}
        done: set[int] = set()
        rows: list[Row] = []
        for index, append, encoded in plain:
            epoch, owner, last = found.get(append.no, (0, "", 0))
            head = (last or 0) & SEQ_MASK
            if epoch != append.epoch or not owner or head != append.head:
                continue  # refused: with the proper words, by Operations
            done.add(index)
            first = (append.no << SEQ_BITS | head) + 1
            if self._keys is None:
                rows.extend(enumerate(encoded, first))
            else:
                rows.extend((id, self._keys.seal(raw, event_at(id))) for id, raw in enumerate(encoded, first))
        self._write(rows)
        return done

    def _plain(self, operations: Sequence[Operation[Any]]) -> list[tuple[int, Append, list[bytes]]]:
        plain: list[tuple[int, Append, list[bytes]]] = []
        seen: set[int] = set()
        for index, operation in enumerate(operations):
            if isinstance(operation, MOVES_OWNERS):
                break
            if not isinstance(operation, Append):
                continue
            if operation.no not in seen and _is_plain(operation):
                try:
                    plain.append((index, operation, [encode_event(event) for event in operation.events]))
                except (TypeError, ValueError, OverflowError):
                    continue  # an event that cannot be written: Operations will say so
            seen.add(operation.no)
        return plain

    def _write(self, rows: list[Row]) -> None:
        for start in range(0, len(rows), ROWS):
            chunk = rows[start : start + ROWS]
            statement = self._insert + ",".join(["(?,?)"] * len(chunk))
            self._execute(statement, [value for row in chunk for value in row])


def _is_plain(append: Append) -> bool:
    extras = (
        append.consumed,
        append.postings,
        append.children,
        append.tasks_opened,
        append.tasks_closed,
        append.attributes,
    )
    if append.change is not None or any(extras):
        return False
    return all(payload_bytes(event) <= BLOB_BYTES_MIN for event in append.events)
