"""Sealing everything anew with the first key, in small transactions, while workers go on.

A store whose payloads were plain, or sealed with an older key, is read from end to end until nothing is left to do. Old
content is overwritten in the file, which SQLite does not do by itself, and at the end the file is rewritten without its
unused pages.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from cadenza.engine.sqlite.database import Connection, close, connect, errors_of
from cadenza.engine.sqlite.payloads import Payloads, blob_at, detail_at, event_at, letter_at, task_at
from cadenza.engine.sqlite.sealing import HEAD_BYTES, KeyRing, check_keys, unsealed
from cadenza.engine.sqlite.sql import queries
from cadenza.engine.sqlite.turnstile import Turnstile
from cadenza.engine.sqlite.vacuum import vacuum

BATCH, PAYLOADS = 200, 20
"""So many values are sealed in one transaction."""
LAST_ID = (1 << 63) - 1
PASSES_MAX = 5
Progress = Callable[[str, int], None]
"""Called with (what, how many values of it were sealed so far)."""
Place = Callable[..., bytes]
SIMPLE: dict[str, Place] = {
    "events": event_at,
    "letters": letter_at,
    "tasks": task_at,
    "details": detail_at,
    "alerts": detail_at,
}
"""What is sealed value by value, and what its place is called. Queries are named ``stale_<what>``, ``reseal_<what>``:
the first gives (id, value, what ``Place`` takes), by ids, the second takes (value, id)."""


class Rotated(msgspec.Struct, frozen=True):
    """What was done.

    Attributes:
        key: the name of the key with which everything is sealed now.
        values: how many values were sealed anew.
        retired: the names of keys that are needed no longer.
        settled: False if a process still writes with another key; nothing is retired then.
        compacted: whether the file was rewritten, so that no unused page holds old content.
    """

    key: str
    values: int
    retired: list[str]
    settled: bool
    compacted: bool


def rotate(path: Path, keys: KeyRing, progress: Progress | None = None, *, compact: bool = True) -> Rotated:
    """Seal everything with the first key of ``keys``.

    Raises:
        KeyMissing: some of it is sealed with a key that is not on the ring.
        StoreUnavailable, StoreCorrupt, StoreVersion: see errors/.
    """
    locks = Path(f"{path}-locks")
    connection = connect(path, writer=True)
    try:
        with errors_of(path):
            check_keys(connection, str(path), keys)
            turnstile = Turnstile(locks)
            try:
                done = _Rotation(connection, turnstile, path, keys, progress).run()
            finally:
                turnstile.close()
    finally:
        close(connection)
    return msgspec.structs.replace(done, compacted=compact and vacuum(path, locks).checkpointed)


class _Rotation:
    def __init__(
        self, connection: Connection, turnstile: Turnstile, path: Path, keys: KeyRing, progress: Progress | None
    ) -> None:
        self._connection, self._turnstile = connection, turnstile
        self._execute: Any = connection.execute
        self._location, self._keys = str(path), keys
        self._payloads = Payloads(self._location, keys)
        self._progress = progress
        self._sql = {name: text.replace("{head}", str(HEAD_BYTES)) for name, text in queries().items()}

    def run(self) -> Rotated:
        self._connection.pragma("secure_delete", 1)
        values = 0
        settled = False
        for _ in range(PASSES_MAX):
            done = sum(self._pass(what, BATCH, partial(self._reseal, what)) for what in SIMPLE)
            done += self._pass("payloads", PAYLOADS, self._reseal_payloads)
            values += done
            if not done:
                settled = True
                break
        retired = self._retire() if settled else []
        return Rotated(self._keys.first.name, values, retired, settled, compacted=False)

    def _pass(self, what: str, batch: int, reseal: Callable[[list[Any]], None]) -> int:
        """Seal what is not sealed with the first key, once through.

        It is looked for without holding up writers; only what was found is read again when it is this process's turn.
        """
        stale, head = self._sql[f"stale_{what}"], self._keys.first.head
        count, last = 0, -1
        while found := self._execute(stale, (last, LAST_ID, head, batch)).fetchall():
            upto = found[-1][0]
            with self._transaction():
                rows = self._execute(stale, (last, upto, head, batch)).fetchall()
                reseal(rows)
            last, count = upto, count + len(rows)
            if self._progress is not None:
                self._progress(what, count)
        return count

    def _reseal(self, what: str, rows: list[Any]) -> None:
        for id, value, *about in rows:
            raw = value.encode() if isinstance(value, str) else value
            where = SIMPLE[what](*about)
            sealed = self._keys.seal(unsealed(raw, where, self._keys, self._location), where)
            self._execute(self._sql[f"reseal_{what}"], (sealed, id))

    def _reseal_payloads(self, rows: list[Any]) -> None:
        """They get a new content hash too: the old one would tell the old key's holder what is equal to what."""
        for _, digest, body in rows:
            new, sealed = self._payloads.blob(unsealed(body, blob_at(digest), self._keys, self._location))
            self._execute(self._sql["insert_blob"], (new, sealed))
            self._execute(self._sql["refer_to_blob"], (new, digest))
            self._execute(self._sql["drop_blob"], (digest,))

    def _retire(self) -> list[str]:
        """Forget the other keys: the store opens without them from now on."""
        with self._transaction():
            return [name for (name,) in self._execute(self._sql["retire_keys"], (self._keys.first.head,)).fetchall()]

    @contextmanager
    def _transaction(self) -> Generator[None]:
        """This process's turn to write, among workers."""
        self._turnstile.enter()
        try:
            self._execute("BEGIN IMMEDIATE")
            try:
                yield
                self._execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._execute("ROLLBACK")
        finally:
            self._turnstile.leave()
