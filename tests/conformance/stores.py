"""Drives a store from a test, one operation or one batch after the other, and shows all that can be read of it."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

from cadenza.durable.events import AnyEvent, MessageReceived, Outcome, RunStarted, StepCompleted
from cadenza.engine.memory import MemoryStore
from cadenza.engine.sqlite.sealing import Key, KeyRing
from cadenza.engine.sqlite.store import SQLiteStore
from cadenza.engine.store import (
    Append,
    Change,
    Claim,
    Create,
    Filter,
    Letter,
    NewRun,
    OpenTaskRow,
    Operation,
    OwnerRow,
    Post,
    Posting,
    Renew,
    RunRow,
    Store,
    Unblock,
)

R = TypeVar("R")
Settled = tuple[Any, Exception | None]
SECOND = 1_000_000
NOW = 1_000 * SECOND
PATIENCE_S = 60.0
EVERYTHING = Filter(limit=1_000_000)


class Client:
    """One client of a store, with a loop of its own.

    Args:
        inline: submit so that results come on the thread that has written, instead of on the loop. With SQLite the
            writer's thread carries out what is inline, and mostly the loop's thread what is not.
        lock: keeps the clients of a memory store, which has no lock of its own, apart.
    """

    def __init__(self, store: Store, inline: bool = False, lock: AbstractContextManager[Any] | None = None) -> None:
        self.store, self.inline, self._lock = store, inline, lock or nullcontext()
        self.loop = asyncio.new_event_loop()
        store.open(self.loop)

    def do(self, operation: Operation[R]) -> R:
        """Carry out one operation. Raises what it is refused with."""
        return _unwrap(self.batch([operation])[0])

    def batch(self, operations: Sequence[Operation[Any]], inline: bool | None = None) -> list[Settled]:
        """Carry out several operations in one transaction: what became of each, in the order in which they settled."""
        with self._lock:
            if self.inline if inline is None else inline:
                return self._batch_inline(operations)
            return self.loop.run_until_complete(self._batch_on_the_loop(operations))

    def _batch_inline(self, operations: Sequence[Operation[Any]]) -> list[Settled]:
        """They are queued while the writer is busy with telling of another one, so that it finds them all together."""
        settled: list[Settled] = []
        done = threading.Event()

        def tell(result: Any, error: Exception | None) -> None:
            settled.append((result, error))
            if len(settled) == len(operations):
                done.set()

        def queue(_: Any, error: Exception | None) -> None:
            assert error is None, error
            for operation in operations:
                self.store.submit(operation, tell, inline=True)

        self.store.submit(Unblock("nobody", NOW), queue, inline=True)
        assert done.wait(PATIENCE_S), f"the store has not settled {operations}"
        return settled

    async def _batch_on_the_loop(self, operations: Sequence[Operation[Any]]) -> list[Settled]:
        """They are submitted in one turn of the loop."""
        settled: list[Settled] = []
        done = asyncio.Event()

        def tell(result: Any, error: Exception | None) -> None:
            settled.append((result, error))
            if len(settled) == len(operations):
                done.set()

        for operation in operations:
            self.store.submit(operation, tell)
        async with asyncio.timeout(PATIENCE_S):
            await done.wait()
        return settled

    def close(self) -> None:
        self.store.close()
        self.loop.close()

    # --- short forms ----------------------------------------------------------------------------------------------

    def create(self, run_id: str = "r1", *, at: int = NOW, **fields: Any) -> RunRow:
        """A new run, ready to be claimed."""
        return self.do(Create(new_run(run_id, at=at, **fields)))[0]

    def claim(self, owner: str = "one", limit: int = 100, now: int = NOW, **fields: Any) -> list[RunRow]:
        return self.do(Claim(owner, limit, now, **fields))

    def owned(self, run_id: str = "r1", owner: str = "one", **fields: Any) -> RunRow:
        """A new run, claimed by ``owner``."""
        return self.create(run_id, owner=owner, **fields)

    def append(self, row: RunRow, *events: AnyEvent, now: int = NOW, **fields: Any) -> None:
        """Append as the owner of ``row``, at the journal's end."""
        self.do(append(row, len(self.store.events(row.no)), *events, now=now, **fields))

    def leave(self, row: RunRow, status: Any, *, now: int = NOW, **fields: Any) -> None:
        """Give up a run in this status."""
        self.append(row, change=Change(status, **fields), now=now)

    def end(self, row: RunRow, status: Any = "completed", now: int = NOW) -> None:
        self.leave(row, status, ended_at=now, now=now)

    def post(self, to: str, event: Outcome | None = None, *, now: int = NOW, **fields: Any) -> RunRow:
        return self.do(Post(Posting(to, event or message(), **fields), now))

    def renew(self, owner: str, expires_at: int = NOW + 10 * SECOND, host: str = "here") -> None:
        self.do(Renew(OwnerRow(owner, host, 1, expires_at)))

    def row(self, run_id: str = "r1") -> RunRow:
        row = self.store.run(run_id)
        assert row is not None, f"no run {run_id}"
        return row

    def inbox(self, run_id: str = "r1") -> list[Letter]:
        return self.store.letters(self.row(run_id).no)

    def journal(self, run_id: str = "r1") -> list[AnyEvent]:
        return self.store.events(self.row(run_id).no)


def dump(store: Store) -> dict[str, Any]:
    """All that a store shows. Two stores with equal dumps are the same to the engine."""
    runs = store.runs(EVERYTHING)
    return {
        "runs": runs,
        "journals": {row.run_id: store.events(row.no) for row in runs},
        "inboxes": {row.run_id: store.letters(row.no) for row in runs},
        "epochs": {row.run_id: store.epoch(row.no) for row in runs},
        "last": {row.run_id: store.last_event(row.no) for row in runs},
        "attributes": store.attributes([row.no for row in runs]),
        "tasks": store.tasks(),
        "alerts": store.alerts(1 << 62, 1_000),
        "owners": store.owners(),
        "mail": {row.owner: sorted(store.mail(row.owner)) for row in runs if row.owner},
        "due": store.next_due(),
    }


class Stores:
    """Makes clients of one kind of store, all on the same data; ``reopened`` is what a new process would see."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind, self.path = kind, folder / "store.db"
        self._memory = MemoryStore()
        self._lock = threading.Lock()
        self._open: list[Client] = []

    def client(self) -> Client:
        if self.kind == "memory":
            client = Client(self._memory, inline=True, lock=self._lock)
        else:
            keys = KEYS if self.kind == "sqlite, sealed" else None
            client = Client(SQLiteStore(self.path, keys), inline=self.kind == "sqlite, inline")
        self._open.append(client)
        return client

    def reopened(self) -> Client:
        self.close()
        return self.client()

    def close(self) -> None:
        for client in self._open:
            client.close()
        self._open.clear()


KINDS = ("memory", "sqlite", "sqlite, inline", "sqlite, sealed")
KEYS = KeyRing([Key("test", bytes(range(32)))])


@contextmanager
def sqlite(path: Path, *, inline: bool = False) -> Iterator[Client]:
    """A client of a SQLite store, for a while."""
    client = Client(SQLiteStore(path), inline)
    try:
        yield client
    finally:
        client.close()


# --- data -------------------------------------------------------------------------------------------------------------

OF_THE_FIRST_EVENT = ("workflow", "input", "parent", "parent_path")


def new_run(run_id: str = "r1", *, at: int = NOW, **fields: Any) -> NewRun:
    """A run to be created; ``fields`` are those of its first event, and of NewRun."""
    first: dict[str, Any] = {"workflow": "m:flow", "input": b"1"}
    first |= {name: fields.pop(name) for name in OF_THE_FIRST_EVENT if name in fields}
    return NewRun(RunStarted(at=at, run_id=run_id, **first), **fields)


def append(row: RunRow, head: int, *events: AnyEvent, now: int = NOW, **fields: Any) -> Append:
    return Append(row.no, row.epoch, head, now, events, **fields)


def message(name: str = "note", value: bytes = b"1", at: int = NOW) -> MessageReceived:
    return MessageReceived(at=at, name=name, value=value)


def completed(path: str = "step#1", value: bytes = b"1", at: int = NOW) -> StepCompleted:
    return StepCompleted(at=at, path=path, name="m:step", input_hash="h", value=value)


def task(run_id: str = "r1", path: str = "@ask#1", asked_at: int = NOW) -> OpenTaskRow:
    return OpenTaskRow(run_id, path, b'{"title":"?"}', asked_at)


def _unwrap(settled: Settled) -> Any:
    result, error = settled
    if error is not None:
        raise error
    return result
