"""Group commit: one thread takes everything that is queued into one transaction.

An operation that is refused (a stale owner, a taken id) fails alone, and nothing of it is written. If the transaction
itself fails (disk full), all of its operations fail, and none is written.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from pathlib import Path
from typing import Any

import apsw

from cadenza.engine.failpoint import failpoint
from cadenza.engine.sqlite.bulk import APPENDS_MIN, BulkAppends
from cadenza.engine.sqlite.database import connect, errors_of, explain
from cadenza.engine.sqlite.operations import Operations
from cadenza.engine.sqlite.turnstile import Turnstile
from cadenza.engine.store import Done, Operation
from cadenza.errors import CadenzaError, StoreError

BATCH_MAX = 1_024
Queued = tuple[Operation[Any], Done, bool]
Settled = tuple[Done, Any, Exception | None]


class Spoilt(Exception):
    """The operation at ``index`` of the batch failed after it had written: the transaction is begun anew without it."""

    def __init__(self, index: int, problem: Exception) -> None:
        self.index, self.problem = index, problem
        super().__init__(index)


class Writer:
    """The one thread of this process that writes to the file."""

    def __init__(self, path: Path, locks: Path) -> None:
        self._path = path
        self._connection = connect(path, writer=True)
        self._operations = Operations(self._connection)
        self._bulk = BulkAppends(self._connection)
        with errors_of(path):
            self._turnstile = Turnstile(locks)
        self._queue: queue.SimpleQueue[Queued | None] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._serve, name="cadenza-writer", daemon=True)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread.start()

    def put(self, operation: Operation[Any], done: Done, inline: bool) -> None:
        self._queue.put((operation, done, inline))

    def stop(self) -> None:
        """Write what is queued, and end the thread."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()
        self._turnstile.close()
        self._connection.close()

    def _serve(self) -> None:
        while (first := self._queue.get()) is not None:
            batch = [first]
            last = False
            while len(batch) < BATCH_MAX:
                try:
                    more = self._queue.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    last = True
                    break
                batch.append(more)
            self._settle(self._commit(batch), batch)
            if last:
                return

    def _commit(self, batch: list[Queued]) -> list[tuple[Any, Exception | None]]:
        """The batch's results, from one transaction; without the operations that failed after they had written."""
        spoilt: dict[int, Exception] = {}
        try:
            with self._turnstile:
                while True:
                    try:
                        return self._transact(batch, spoilt)
                    except Spoilt as each:
                        spoilt[each.index] = each.problem
        except (apsw.Error, OSError) as error:
            problem = explain(error, self._path)
            return [(None, problem)] * len(batch)

    def _transact(self, batch: list[Queued], spoilt: dict[int, Exception]) -> list[tuple[Any, Exception | None]]:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            bulk = self._bulk.carry_out([operation for operation, _, _ in batch]) if len(batch) >= APPENDS_MIN else set[int]()
            results = [
                self._carry_out(index, operation) if index not in bulk and index not in spoilt else (None, spoilt.get(index))
                for index, (operation, _, _) in enumerate(batch)
            ]
            failpoint("before_commit")
            connection.execute("COMMIT")
            failpoint("after_commit")
        finally:
            if connection.in_transaction:
                with contextlib.suppress(apsw.Error):
                    connection.execute("ROLLBACK")
        return results

    def _carry_out(self, index: int, operation: Operation[Any]) -> tuple[Any, Exception | None]:
        connection = self._connection
        before = connection.total_changes()
        try:
            return self._operations.carry_out(operation), None
        except (apsw.Error, OSError):
            raise
        except Exception as error:
            problem = error if isinstance(error, CadenzaError) else unforeseen(operation, error)
            if connection.total_changes() == before:
                return None, problem
            raise Spoilt(index, problem) from error

    def _settle(self, results: list[tuple[Any, Exception | None]], batch: list[Queued]) -> None:
        later: list[Settled] = []
        for (result, error), (_, done, inline) in zip(results, batch, strict=True):
            if inline:
                done(result, error)
            else:
                later.append((done, result, error))
        if later and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
                self._loop.call_soon_threadsafe(_tell, later)


def unforeseen(operation: Operation[Any], error: Exception) -> StoreError:
    """An operation that cannot be carried out at all: the writer goes on without it."""
    return StoreError(f"{type(operation).__name__} could not be written ({type(error).__name__}: {error})")


def _tell(settled: list[Settled]) -> None:
    for done, result, error in settled:
        done(result, error)
