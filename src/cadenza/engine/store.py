"""Store: where runs live. Writes are operations, data that a store carries out in one transaction each; reads are
calls.

The commit and fencing protocol (ADR 0004):

    - Claiming a run bumps its ``epoch``. An ``Append`` carries (epoch, head); if either is not what the store has, the
      operation fails with Fenced, alone, and nothing of it is written.
    - Whatever belongs together is one operation: events, consumed letters, posted letters, child runs, open tasks and
    the
      run's new status.
    - Only a run's owner appends to its journal; everybody else posts to its inbox.
    - ``done`` is called after the operation is durable, in the order of submission.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, Protocol, TypeVar

import msgspec

from cadenza.durable.events import AnyEvent, AttributesSet, Outcome, RunStarted, Scalar
from cadenza.engine.filter import Filter
from cadenza.engine.upkeep import AlertRow, Operation
from cadenza.errors import ImportRefused, UnknownName

R = TypeVar("R")
Status = Literal["ready", "running", "waiting", "blocked", "completed", "failed", "cancelled"]
Conflict = Literal["reject", "join", "replace"]
ENDED = ("completed", "failed", "cancelled")
INBOX_MAX = 10_000
BLOB_BYTES_MIN = 16_384
ANY_HEAD = -1
SEQ_BITS = 24
SEQ_MASK = (1 << SEQ_BITS) - 1
"""A journal row's key is ``run number << 24 | seq``: appends to one run touch one page, and a doubled seq is
refused."""


class RunRow(msgspec.Struct, frozen=True):
    """A run as lists show it. Times are microseconds since 1970."""

    no: int
    run_id: str
    workflow: str
    status: Status
    business_id: str = ""
    generation: int = 0
    first_seq: int = 1
    epoch: int = 0
    owner: str = ""
    ready_at: int = 0
    wake_at: int = 0
    priority: int = 0
    concurrency_key: str = ""
    concurrency: int = 0
    parent: str = ""
    parent_path: str = ""
    created_at: int = 0
    ended_at: int = 0
    detail: str = ""

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    @property
    def root(self) -> str:
        """The run id at the top of this run's family: children are named ``parent.suffix``."""
        return self.run_id.partition(".")[0]

    @property
    def shown_status(self) -> str:
        """``pending`` for a run that nobody has taken yet."""
        return "pending" if self.status == "ready" and not self.epoch else self.status


class Letter(msgspec.Struct, frozen=True):
    """An outcome in a run's inbox, waiting to be journaled by its owner."""

    id: int
    event: Outcome
    generation: int = -1


class OpenTaskRow(msgspec.Struct, frozen=True):
    """A question that waits for a person."""

    run_id: str
    path: str
    task: bytes
    asked_at: int
    generation: int = 0


class OwnerRow(msgspec.Struct, frozen=True):
    """A worker process, alive until ``expires_at``."""

    owner: str
    host: str
    pid: int
    expires_at: int


class NewRun(msgspec.Struct, frozen=True):
    """A run to be created, with its first event; ``history`` is what a fork has copied, and follows it."""

    started: RunStarted
    business_id: str = ""
    on_conflict: Conflict = "reject"
    priority: int = 0
    concurrency_key: str = ""
    concurrency: int = 0
    owner: str = ""
    history: tuple[AnyEvent, ...] = ()

    @property
    def created_at(self) -> int:
        """When its last event was: the first is that of the origin, for a fork."""
        return self.history[-1].at if self.history else self.started.at


class Replaced(msgspec.Struct, frozen=True):
    """A run that makes room for a new one, if its journal still ends at ``head`` and as many letters are unread."""

    no: int
    run_id: str
    head: int
    unread: int
    reason: str


class Create(Operation[tuple[RunRow, bool]], frozen=True):
    """Start a run, with ``children`` that it will find there, after ``instead_of`` were ended without their code, in
    this order. Results in (run, whether it is new). Raises DuplicateRun; Fenced if one of ``instead_of`` has gone on.
    """

    run: NewRun
    children: tuple[NewRun, ...] = ()
    instead_of: tuple[Replaced, ...] = ()


class Posting(msgspec.Struct, frozen=True):
    """A letter on its way. ``key`` deduplicates; ``generation`` -1 is any; ``bounded`` letters need room in the
    inbox."""

    to: str
    event: Outcome
    key: str = ""
    generation: int = -1
    bounded: bool = False


class Post(Operation[RunRow], frozen=True):
    """Put a letter in a run's inbox, and wake it. Raises UnknownName, InboxFull, UsageError if the run has ended."""

    posting: Posting
    now: int


class Change(msgspec.Struct, frozen=True):
    """A run's new status. ``release`` gives up ownership; ``None`` leaves a field as it is; ``alert`` tells people."""

    status: Status
    release: bool = True
    wake_at: int = 0
    detail: str = ""
    ended_at: int = 0
    generation: int | None = None
    first_seq: int | None = None
    alert: bool = False


class Append(Operation[None], frozen=True):
    """Write to a run's journal as its owner. Raises Fenced.

    ``head`` is the journal's last number, or ANY_HEAD, without events, for an owner that could not read the journal.
    ``attributes`` are set in this order; None takes one away.
    """

    no: int
    epoch: int
    head: int
    now: int
    events: tuple[AnyEvent, ...] = ()
    consumed: tuple[int, ...] = ()
    postings: tuple[Posting, ...] = ()
    children: tuple[NewRun, ...] = ()
    tasks_opened: tuple[OpenTaskRow, ...] = ()
    tasks_closed: tuple[str, ...] = ()
    change: Change | None = None
    attributes: tuple[tuple[str, Scalar | None], ...] = ()


class Claim(Operation[list[RunRow]], frozen=True):
    """Take up to ``limit`` ready runs for ``owner``, by priority and age.

    Timers that are due are made ready first, and so are runs of owners whose lease expired before ``now`` or that are
    in
    ``dead``. Runs over the concurrency of their key stay. A ``family`` restricts the claim to these runs and their
    children.
    """

    owner: str
    limit: int
    now: int
    dead: tuple[str, ...] = ()
    family: tuple[str, ...] = ()


class Renew(Operation[None], frozen=True):
    """Prolong an owner's lease."""

    owner: OwnerRow


class Retire(Operation[None], frozen=True):
    """An owner leaves: what it still has becomes ready."""

    owner: str
    now: int


class Reclaim(Operation[RunRow | None], frozen=True):
    """Take one run anew after a failed write, if it is still ours: the epoch is bumped. None: it is not."""

    no: int
    owner: str


class Unblock(Operation[int], frozen=True):
    """Make blocked runs ready: one, or all where ``run_id`` is empty. Results in how many."""

    run_id: str
    now: int


class Terminate(Operation[bool], frozen=True):
    """End a run without its code: the operator's last resort. Results in whether it was still open."""

    run_id: str
    reason: str
    now: int


class Mail(msgspec.Struct, frozen=True):
    """A letter as it lies in an inbox. One that was read leaves its key behind, if it had one (``event`` is None)."""

    event: Outcome | None
    key: str = ""
    generation: int = -1


class RunCopy(msgspec.Struct, frozen=True):
    """All that a store knows of one run."""

    row: RunRow
    events: tuple[AnyEvent, ...]
    mail: tuple[Mail, ...] = ()
    tasks: tuple[OpenTaskRow, ...] = ()


class Import(Operation[None], frozen=True):
    """Take in runs of another store, all of them or none, under new numbers and without an owner.

    Raises ImportRefused: a run id or business id is taken.
    """

    copies: tuple[RunCopy, ...]


Done = Callable[[Any, Exception | None], None]


class Store(Protocol):
    """What the engine needs of a database."""

    def submit(self, operation: Operation[Any], done: Done, *, inline: bool = False) -> None:
        """Queue a write. ``done(result, error)`` is called on the loop, or on the writer's thread if ``inline``."""
        ...

    def events(self, no: int, first_seq: int = 1) -> list[AnyEvent]:
        """A run's journal from ``first_seq`` on."""
        ...

    def last_event(self, no: int) -> AnyEvent:
        """The last event of a run's journal."""
        ...

    def letters(self, no: int) -> list[Letter]:
        """What waits in a run's inbox, oldest first."""
        ...

    def run(self, run_id: str) -> RunRow | None:
        """The run of this run id or business id."""
        ...

    def runs(self, filter: Filter) -> list[RunRow]: ...

    def copies(self, run_id: str) -> list[RunCopy]:
        """A run and all children below it, parents first, as they were at one moment. Raises UnknownName."""
        ...

    def attributes(self, numbers: Sequence[int]) -> dict[int, dict[str, Scalar]]:
        """The search attributes of these runs, by their numbers; nothing for one that has none."""
        ...

    def tasks(self, run_id: str = "") -> list[OpenTaskRow]:
        """Open questions to people, oldest first; of one run or of all."""
        ...

    def alerts(self, now: int, limit: int) -> list[AlertRow]:
        """Alerts that are due, oldest first."""
        ...

    def mail(self, owner: str) -> list[int]:
        """Numbers of the owner's runs that have unread letters."""
        ...

    def next_due(self, after: int = 0) -> int:
        """When the next run is due (microseconds since 1970), of those that are due after ``after``; 0 if none is."""
        ...

    def owners(self) -> list[OwnerRow]:
        """Worker processes; one that has runs and no lease (it was buried, and claimed once more) has expired at 0."""
        ...

    def epoch(self, no: int) -> int:
        """A run's epoch, read anew; 0 while nobody owns it."""
        ...

    def version(self) -> int:
        """Changes whenever anybody has committed."""
        ...

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to serve: results come back on ``loop``."""
        ...

    def close(self) -> None:
        """Write what is queued, and stop."""
        ...


def taken(row: RunRow, here: RunRow) -> ImportRefused:
    """Why ``row`` cannot be imported beside ``here``."""
    if row.run_id == here.run_id:
        problem = f"this store has that run already ({here.shown_status}), with another journal"
        return ImportRefused(f"run {row.run_id}", problem, "Import it into a store of its own.")
    problem = f"its id {row.business_id!r} belongs to run {here.run_id} ({here.shown_status}) here"
    return ImportRefused(f"run {row.run_id}", problem, "Import it into a store of its own.")


def attributes_of(events: Iterable[AnyEvent]) -> list[tuple[str, Scalar | None]]:
    """What a journal says of its run's search attributes, in order."""
    return [each for event in events if isinstance(event, AttributesSet) for each in event.values.items()]


def no_such_run(no: int) -> UnknownName:
    """The error where a run was purged while somebody still held its number."""
    return UnknownName("run", f"number {no}", hint="It was purged.")


async def perform(store: Store, operation: Operation[R]) -> R:
    """Submit a write and wait for its result."""
    future: asyncio.Future[R] = asyncio.get_running_loop().create_future()

    def done(result: R, error: Exception | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    store.submit(operation, done)
    return await future
