"""What all processes share, and each process's way to it: the production stores behind a writer that delays and fails.

A write is queued, begun, committed and acknowledged, each at its own time. A process that dies between begin and commit
leaves its transaction either done or not done, by chance; one that dies between commit and acknowledgement leaves it
done. What was acknowledged is never lost; what was only queued always is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from cadenza.engine.memory import MemoryStore
from cadenza.engine.sqlite.store import SQLiteStore
from cadenza.engine.store import Done, Operation, Renew
from cadenza.errors import StoreUnavailable
from tests.simulation import stage

if TYPE_CHECKING:
    from tests.simulation.process import Process

READS = {"epoch", "events", "last_event", "letters", "mail", "next_due", "owners", "run", "runs", "tasks", "version"}
Result = tuple[Any, Exception | None]


class Disk(Protocol):
    """One database, shared by the machine's processes. ``reads`` answers their reads."""

    reads: Any

    def commit(self, operations: Sequence[Operation[Any]]) -> list[Result]: ...
    def close(self) -> None: ...


class MemoryDisk:
    """The in-memory store's own operations."""

    def __init__(self) -> None:
        self.reads = MemoryStore()

    def commit(self, operations: Sequence[Operation[Any]]) -> list[Result]:
        return [self.reads.carry_out(operation) for operation in operations]

    def close(self) -> None:
        """Nothing to close."""


class SQLiteDisk:
    """The SQLite store's own transactions, without its thread."""

    def __init__(self, path: Path) -> None:
        self.reads = SQLiteStore(path)

    def commit(self, operations: Sequence[Operation[Any]]) -> list[Result]:
        return self.reads._writer._commit([(operation, _nobody, False) for operation in operations])

    def close(self) -> None:
        self.reads.close()


def _nobody(result: Any, error: Exception | None) -> None:
    """The simulated writer tells the waiters itself."""


class ProcessStore:
    """The Store of one process: reads go to the disk at once, writes through a simulated writer."""

    location = "simulated"

    def __init__(self, process: Process, disk: Disk, locks: Path | None) -> None:
        self.process, self._disk = process, disk
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queue: list[tuple[Operation[Any], Done, bool]] = []
        self._begun: list[tuple[Operation[Any], Done, bool]] = []
        self._results: list[Result] | None = None
        self._closed = False
        if locks is not None:
            self.locks = locks

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def close(self) -> None:
        """Write what is queued, and stop."""
        while self._begun or self._queue:
            if not self._begun:
                self._begun, self._queue = self._queue, []
            if self._results is None:
                self._results = self._commit()
            self._tell()
        self._closed = True

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in READS:
            raise AttributeError(name)
        answer, faults = getattr(self._disk.reads, name), self.process.faults

        def read(*arguments: Any, **options: Any) -> Any:
            if faults.read_fails(self.process, name):
                raise _unavailable("the disk could not be read")
            return answer(*arguments, **options)

        self.__dict__[name] = read
        return read

    # --- the writer -----------------------------------------------------------------------------------------------

    def submit(self, operation: Operation[Any], done: Done, *, inline: bool = False) -> None:
        if self._closed:
            return
        self._queue.append((operation, done, inline))
        if len(self._queue) == 1 and not self._begun:
            self.process.later(self.process.faults.delay_us("begin"), self._begin)

    def _begin(self) -> None:
        """Take everything that is queued into one transaction."""
        if self._begun or not self._queue:
            return
        self._begun, self._queue = self._queue, []
        self.process.later(self.process.faults.delay_us("commit"), self._finish)

    def _finish(self) -> None:
        if not self._begun or self._results is not None:
            return  # close() was faster
        process = self.process
        self._results = self._commit()
        process.later(process.faults.delay_us("tell"), self._tell)
        if any(not isinstance(operation, Renew) for operation, _, _ in self._begun):
            process.faults.point(process, "commit")

    def _commit(self) -> list[Result]:
        process, operations = self.process, [operation for operation, _, _ in self._begun]
        fate = process.faults.fate_of_write(process)
        if fate == "lost":
            process.scheduler.trace(process.name, "write fails:", *(type(each).__name__ for each in operations))
            return [(None, _unavailable("the disk is full"))] * len(operations)
        results = self._disk.commit(operations)
        process.auditor.committed(process, operations, results)
        if fate == "ambiguous":
            process.scheduler.trace(process.name, "the write was done, and its answer is an error")
            return [(None, _unavailable("the disk reports an error"))] * len(operations)
        return results

    def _tell(self) -> None:
        if self._results is None:
            return
        told = list(zip(self._begun, self._results, strict=True))
        self._begun, self._results = [], None
        for (_, done, inline), (result, error) in told:
            if inline:
                with stage.running(self.process):
                    done(result, error)
            elif self._loop is not None:
                self._loop.call_soon(done, result, error)
        if self._queue and not self._closed:
            self._begin()

    def die(self, *, done: bool) -> None:
        """The process is gone: its transaction under way is ``done`` or it is not."""
        begun = [operation for operation, _, _ in self._begun]
        if begun and done and self._results is None and not self._closed:
            self.process.auditor.committed(self.process, begun, self._disk.commit(begun))
        self._closed = True
        self._queue, self._begun = [], []


def _unavailable(problem: str) -> StoreUnavailable:
    return StoreUnavailable("simulated", problem, "Try again.")
