"""Group commit: everything that was submitted in one turn of the loop goes into one transaction.

Where the disk is fast and nobody else writes, the loop's thread commits by itself: to wake the writer's thread, to be
woken by it and to share the interpreter's lock with it costs more than the commit. In every other case (a slow disk,
another process at the turnstile, a batch or a checkpoint under way) the writer's thread commits, and the loop goes on
meanwhile.

An operation that is refused (a stale owner, a taken id) fails alone, and nothing of it is written. If the transaction
itself fails (disk full), all of its operations fail, and none is written.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from pathlib import Path
from typing import Any

import apsw

from cadenza.engine.failpoint import failpoint
from cadenza.engine.sqlite.bulk import APPENDS_MIN, BulkAppends
from cadenza.engine.sqlite.database import CHECKPOINT_PAGES, close, connect, errors_of, explain, lengthen_log, patient
from cadenza.engine.sqlite.operations import Operations
from cadenza.engine.sqlite.payloads import Payloads
from cadenza.engine.sqlite.sealing import KeyRing, check_keys
from cadenza.engine.sqlite.turnstile import Turnstile
from cadenza.engine.store import Done, Operation
from cadenza.errors import CadenzaError, StoreError

BATCH_MAX = 1_024
QUICK_S = 0.002
"""While commits usually take longer than this many seconds, none is made on the loop's thread."""
BUSY_PAGES = 32
"""When the log has so many pages, it gets its full length. A short command does not pay for that."""
Queued = tuple[Operation[Any], Done, bool]
Settled = tuple[Done, Any, Exception | None]


class Spoilt(Exception):
    """The operation at ``index`` of the batch failed after it had written: the transaction is begun anew without it."""

    def __init__(self, index: int, problem: Exception) -> None:
        self.index, self.problem = index, problem
        super().__init__(index)


class Writer:
    """The one connection of this process that writes to the file. ``_mutex`` is held by the thread that uses it."""

    def __init__(self, path: Path, locks: Path, keys: KeyRing | None) -> None:
        self._path = path
        self._connection = connect(path, writer=True)
        try:
            with errors_of(path):
                check_keys(self._connection, str(path), keys)
        except BaseException:
            close(self._connection)
            raise
        self._connection.set_wal_hook(self._after_commit)
        self._patience = patient()
        self._connection.set_busy_handler(self._wait)
        payloads = Payloads(str(path), keys)
        self._operations = Operations(self._connection, payloads)
        self._bulk = BulkAppends(self._connection, payloads)
        with errors_of(path):
            self._turnstile = Turnstile(locks)
        self._mutex = threading.Lock()
        self._here = False
        self._pending: list[Queued] = []
        self._handed_over = 0
        self._queue: queue.SimpleQueue[list[Queued] | None] = queue.SimpleQueue()
        self._checkpoint_due = self._short = self._lengthened = False
        self._usual_s = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._serve, name="cadenza-writer", daemon=True)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread.start()

    def put(self, operation: Operation[Any], done: Done, inline: bool) -> None:
        """Take an operation into the next transaction; ``inline`` ones may come from any thread."""
        if inline or self._loop is None:
            self._queue.put([(operation, done, inline)])
            return
        pending = self._pending
        pending.append((operation, done, False))
        if len(pending) >= BATCH_MAX:
            self._hand_over()
        elif len(pending) == 1:
            self._loop.call_soon(self._flush)

    def stop(self) -> None:
        """Write what is queued, and end the thread."""
        if self._thread.is_alive():
            self._hand_over()
            self._queue.put(None)
            self._thread.join()
        self._loop = None  # whoever submits now is being cancelled: it waits for ever, and nothing is written
        self._turnstile.close()
        close(self._connection)

    # --- the loop's thread ----------------------------------------------------------------------------------------

    def _flush(self) -> None:
        """Commit what was submitted in this turn of the loop: here if that is quick, else on the writer's thread."""
        if self._commit_here():
            batch, self._pending = self._pending, []
            try:
                results = self._commit(batch)
            except apsw.BusyError:
                self._pending = batch  # another program has the file: the writer's thread can wait for it
                self._hand_over()
                return
            finally:
                self._here = False
                self._mutex.release()
            if self._checkpoint_due:
                self._queue.put([])
            _tell([(done, *result) for result, (_, done, _) in zip(results, batch, strict=True)])
        else:
            self._hand_over()

    def _commit_here(self) -> bool:
        """Take the mutex and the turnstile, if a commit is quick and need wait for nobody; says whether they were
        taken."""
        slow = self._usual_s > QUICK_S or self._handed_over or self._checkpoint_due
        if slow or not self._pending or not self._mutex.acquire(blocking=False):
            return False
        if self._turnstile.enter_at_once():
            self._here = True
            return True
        self._mutex.release()
        return False

    def _hand_over(self) -> None:
        batch, self._pending = self._pending, []
        if batch:
            self._handed_over += len(batch)
            self._queue.put(batch)

    def _take_back(self, settled: list[Settled]) -> None:
        self._handed_over -= len(settled)
        _tell(settled)

    # --- the writer's thread --------------------------------------------------------------------------------------

    def _serve(self) -> None:
        last = False
        while not last and (first := self._queue.get()) is not None:
            batch = first
            while len(batch) < BATCH_MAX:
                try:
                    more = self._queue.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    last = True
                    break
                batch = batch + more
            with self._mutex:
                if batch:
                    self._settle(self._commit_in_turn(batch), batch)
                if self._checkpoint_due:
                    self._checkpoint()

    def _commit_in_turn(self, batch: list[Queued]) -> list[tuple[Any, Exception | None]]:
        try:
            self._turnstile.enter()
        except OSError as error:
            return [(None, explain(error, self._path))] * len(batch)
        return self._commit(batch)

    def _settle(self, results: list[tuple[Any, Exception | None]], batch: list[Queued]) -> None:
        later: list[Settled] = []
        for (result, error), (_, done, inline) in zip(results, batch, strict=True):
            if inline:
                done(result, error)
            else:
                later.append((done, result, error))
        if later and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._take_back, later)

    def _checkpoint(self) -> None:
        self._checkpoint_due = False
        with contextlib.suppress(apsw.Error):  # the next commit will ask again
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    # --- either thread --------------------------------------------------------------------------------------------

    def _commit(self, batch: list[Queued]) -> list[tuple[Any, Exception | None]]:
        """The batch's results, from one transaction; without the operations that failed after they had written.

        The caller has entered the turnstile, which is left here. On the loop's thread, BusyError is raised at once.
        """
        spoilt: dict[int, Exception] = {}
        try:
            while True:
                try:
                    results = self._transact(batch, spoilt)
                    if self._short:
                        self._short = False
                        lengthen_log(self._connection, self._path)
                    return results
                except Spoilt as each:
                    spoilt[each.index] = each.problem
        except (apsw.Error, OSError) as error:
            if self._here and isinstance(error, apsw.BusyError):
                raise
            problem = explain(error, self._path)
            return [(None, problem)] * len(batch)
        finally:
            self._turnstile.leave()

    def _wait(self, tries: int) -> bool:
        """Whether to wait for another program's lock: never on the loop's thread."""
        return not self._here and self._patience(tries)

    def _after_commit(self, _connection: apsw.Connection, _database: str, pages: int) -> int:
        """SQLite says how long the WAL is. A checkpoint takes many milliseconds, so the writer's thread makes it."""
        if pages >= CHECKPOINT_PAGES:
            self._checkpoint_due = True
        elif pages >= BUSY_PAGES and not self._lengthened:
            self._short = self._lengthened = True
        return apsw.SQLITE_OK

    def _transact(self, batch: list[Queued], spoilt: dict[int, Exception]) -> list[tuple[Any, Exception | None]]:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            bulk = (
                self._bulk.carry_out([operation for operation, _, _ in batch])
                if len(batch) >= APPENDS_MIN
                else set[int]()
            )
            results = [
                self._carry_out(index, operation)
                if index not in bulk and index not in spoilt
                else (None, spoilt.get(index))
                for index, (operation, _, _) in enumerate(batch)
            ]
            failpoint("before_commit")
            began_s = time.monotonic()
            connection.execute("COMMIT")
            self._usual_s += 0.2 * (time.monotonic() - began_s - self._usual_s)
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


def unforeseen(operation: Operation[Any], error: Exception) -> StoreError:
    """An operation that cannot be carried out at all: the writer goes on without it."""
    return StoreError(f"{type(operation).__name__} could not be written ({type(error).__name__}: {error})")


def _tell(settled: list[Settled]) -> None:
    for done, result, error in settled:
        done(result, error)
