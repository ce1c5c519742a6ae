"""The owner's end of a run's journal: numbers events, sends them in appends, and says when they are on disk.

At most one append of a run is on its way; what arrives meanwhile goes into the next one, with everything that belongs
to it. What nobody waits for is collected for a moment first. After a refused append nothing more is sent: somebody else
owns the run, or the store is gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Protocol

import msgspec

from cadenza.durable import events
from cadenza.durable.ledger import Ledger
from cadenza.engine.environment import Environment
from cadenza.engine.store import ANY_HEAD, Append, Change, NewRun, OpenTaskRow, Posting, RunRow
from cadenza.errors import JournalFull

log = logging.getLogger("cadenza")
EVENT_BYTES = 120
"""What an event weighs without its payload, about."""


BEHIND_S = 0.005
BEHIND_MAX = 64
"""Events that nobody waits for are sent after so many seconds, or once there are so many."""


class JournalOwner(Protocol):
    """Who is told what became of an append."""

    def committed(self, operation: Append) -> None: ...
    def refused(self, error: Exception) -> None: ...
    def full(self, bug: JournalFull) -> None: ...


class Draft:
    """What goes into the next append; most often an event or two, and nothing else."""

    consumed: tuple[int, ...] = ()
    postings: tuple[Posting, ...] = ()
    children: tuple[NewRun, ...] = ()
    tasks_opened: tuple[OpenTaskRow, ...] = ()
    tasks_closed: tuple[str, ...] = ()
    attributes: tuple[tuple[str, events.Scalar | None], ...] = ()
    change: Change | None = None
    awaited = False

    def __init__(self) -> None:
        self.events: list[events.AnyEvent] = []

    @property
    def empty(self) -> bool:
        return not (self.events or self.consumed or self.tasks_closed or self.change)


class JournalWriter:
    """One run's journal, as long as this process owns the run. ``head`` is the last number given, ``on_disk`` the
    last safe."""

    def __init__(self, env: Environment, row: RunRow, owner: JournalOwner) -> None:
        self.row = row
        self.head = self.on_disk = row.first_seq - 1
        self.sending = self.closed = self.closing = self._held = False
        self._env, self._owner = env, owner
        self._draft = Draft()
        self._waiters: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._collecting: asyncio.TimerHandle | None = None
        self.begin(row)

    def begin(self, row: RunRow) -> None:
        """A generation begins: with an empty ledger, and nothing weighed yet."""
        options = self._env.options
        self.row, self.ledger, self.closing = row, Ledger(), False
        self._bytes = 0
        self._seq_max = row.first_seq - 1 + options.journal_events_max
        self._seq_half = row.first_seq - 1 + options.journal_events_max // 2
        self._bytes_max = options.journal_bytes_max

    def loaded(self, journal: list[events.AnyEvent]) -> None:
        """These events are on disk already."""
        for event in journal:
            self.ledger.note(event)
            self._bytes += EVENT_BYTES + events.payload_bytes(event)
        self.head = self.on_disk = self.row.first_seq - 1 + len(journal)

    def unread(self) -> None:
        """The journal cannot be read: nothing can be added to it, and the run's status can be changed all the same."""
        self.head = self.on_disk = ANY_HEAD

    @property
    def settled(self) -> bool:
        """Whether everything is on disk."""
        return not self.sending and self._draft.empty

    def record(
        self,
        event: events.AnyEvent,
        *,
        consumed: int = 0,
        posting: Posting | None = None,
        child: NewRun | None = None,
        task_opened: OpenTaskRow | None = None,
        task_closed: str = "",
        with_next: bool = False,
        behind: bool = False,
    ) -> int:
        """Append ``event`` with all that belongs to it; returns its number.

        Args:
            with_next: it goes to disk with the next event.
            behind: nobody waits for it.
        """
        assert not self.closing, f"{event} after the end"
        if self.closed:
            return self.head
        self.head += 1
        draft = self._draft
        draft.events.append(event)
        if not behind:
            draft.awaited = True
        self.ledger.note(event)
        if consumed:
            draft.consumed += (consumed,)
        if posting is not None:
            draft.postings += (posting,)
        if child is not None:
            draft.children += (child,)
        if task_opened is not None:
            draft.tasks_opened += (task_opened,)
        if task_closed:
            draft.tasks_closed += (task_closed,)
        self._bytes += EVENT_BYTES + events.payload_bytes(event)
        if self.head >= self._seq_half or self._bytes > self._bytes_max:
            self._weigh()
        if not (self.sending or self._held or with_next):
            self._flush()
        return self.head

    def set_attributes(self, event: events.AttributesSet) -> None:
        """Append ``event``, and set what it says beside the run's row in the same transaction."""
        self._draft.attributes += tuple(event.values.items())
        self.record(event)

    def hold(self) -> None:
        """What is recorded until ``let_go`` is one append: all of it will be there after a crash, or nothing."""
        self._held = True

    def let_go(self) -> None:
        self._held = False
        self._flush()

    def record_behind(self, event: events.AnyEvent) -> None:
        """Append what could be made again; nothing is done after the end."""
        if not self.closing:
            self.record(event, behind=True)

    async def commit(self, event: events.AnyEvent) -> None:
        """Append, and wait until it is on disk. If the run is lost, the waiting task is cancelled."""
        seq = self.record(event)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.closed:
            future.cancel()
        self._waiters.append((seq, future))
        await future

    def start_with_next(self, child: NewRun) -> None:
        """Start a run in the transaction of the next append, of which this journal says nothing."""
        self._draft.children += (child,)

    def consume(self, letter: int) -> None:
        """A letter was read, and nothing comes of it."""
        self._draft.consumed += (letter,)
        self._flush()

    def close_task(self, path: str) -> None:
        """Nobody need answer this any more."""
        self._draft.tasks_closed += (path,)

    def leave(self, change: Change, posting: Posting | None, last: tuple[events.AnyEvent, ...]) -> None:
        """The last append: the run's new status, and the events that go with it."""
        self.closing = True
        if self._env.options.alerts is not None and change.status in ("failed", "blocked"):
            change = msgspec.structs.replace(change, alert=True)
        self.head += len(last)
        draft = self._draft
        draft.events.extend(last)
        draft.change, draft.awaited = change, True
        if posting is not None:
            draft.postings += (posting,)
        self._flush()

    def close(self) -> None:
        self.closed = True
        if self._collecting is not None:
            self._collecting.cancel()
        for _, future in self._waiters:
            future.cancel()

    def _weigh(self) -> None:
        count = self.head - self.row.first_seq + 1
        if self.head > self._seq_max or self._bytes > self._bytes_max:
            self._owner.full(JournalFull(f"{count:,} events and {self._bytes:,} bytes"))
        elif self.head == self._seq_half:
            log.warning("run %s: its journal is half full (%d events); use ctx.continue_as_new", self.row.run_id, count)

    def hurry(self) -> None:
        """Somebody waits for what was written behind."""
        if not self._draft.awaited:
            self._draft.awaited = True
            if not self._held:
                self._flush()

    def _flush(self) -> None:
        """Send the draft; what nobody waits for is collected for a moment."""
        draft = self._draft
        if self.sending or self.closed or draft.empty:
            return
        if not draft.awaited and len(draft.events) < BEHIND_MAX:
            if self._collecting is None:
                self._collecting = self._env.loop.call_later(BEHIND_S, self._collected)
            return
        self._send()

    def _collected(self) -> None:
        self._collecting = None
        if not (self.sending or self.closed or self._held or self._draft.empty):
            self._send()

    def _send(self) -> None:
        draft = self._draft
        self._draft, self.sending = Draft(), True
        head = self.head
        operation = Append(
            self.row.no,
            self.row.epoch,
            head - len(draft.events),
            self._env.clock.now(),
            tuple(draft.events),
            draft.consumed,
            draft.postings,
            draft.children,
            draft.tasks_opened,
            draft.tasks_closed,
            draft.change,
            draft.attributes,
        )
        self._env.store.submit(operation, lambda _, error: self._sent(operation, head, error))

    def _sent(self, operation: Append, head: int, error: Exception | None) -> None:
        self.sending = False
        if self.closed:
            return
        if error is not None:
            self._owner.refused(error)
            return
        self.on_disk = head
        waiters = self._waiters
        while waiters and waiters[0][0] <= head:
            future = waiters.popleft()[1]
            if not future.done():
                future.set_result(None)
        self._owner.committed(operation)
        self._flush()
