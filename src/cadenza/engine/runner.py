"""One machine and one store: activation by activation.

Invariants:
    - Events get their sequence number here, in the order of arrival, and are delivered in that order.
    - At most one append of a run is on its way; what arrives meanwhile goes into the next one.
    - ``delivered`` may be ahead of ``committed`` only by events that may be lost: read outcomes, timers, patches. No
      effect stronger than read starts while it is (the read barrier, rule 1).
    - Whatever leaves the process with an append (children, letters, tasks, results) is behind the barrier by itself.
    - After a refused append the runner does nothing more: somebody else owns the run, or the store is gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Literal

from cadenza.durable import codec, commands, events
from cadenza.durable.define import find_workflow
from cadenza.durable.human import Answer
from cadenza.durable.ledger import Ledger
from cadenza.durable.machine import Machine
from cadenza.engine.dispatch import Dispatcher
from cadenza.engine.environment import Environment
from cadenza.engine.execution import Execution
from cadenza.engine.failpoint import failpoint
from cadenza.engine.store import Append, Change, Letter, NewRun, OpenTaskRow, Posting, RunRow
from cadenza.errors import CadenzaError, Evicted, Fenced, JournalFull, Nondeterminism, UnknownName, WorkflowBug

log = logging.getLogger("cadenza")
End = Literal["parked", "ended", "blocked", "released", "lost", "broken"]


class Draft:
    """What goes into the next append."""

    __slots__ = ("change", "children", "consumed", "events", "postings", "tasks_closed", "tasks_opened")

    def __init__(self) -> None:
        self.events: list[events.AnyEvent] = []
        self.consumed: list[int] = []
        self.postings: list[Posting] = []
        self.children: list[NewRun] = []
        self.tasks_opened: list[OpenTaskRow] = []
        self.tasks_closed: list[str] = []
        self.change: Change | None = None

    @property
    def empty(self) -> bool:
        return not (self.events or self.consumed or self.tasks_closed or self.change)


class Runner:
    """Drives one run that this process owns, until it is parked, ended, blocked or lost; then calls ``on_end``."""

    def __init__(self, env: Environment, row: RunRow, on_end: Callable[[Runner, End, Exception | None], None]) -> None:
        self.env, self.row = env, row
        self._on_end = on_end
        self.ledger = Ledger()
        self.executions: dict[str, Execution] = {}
        self.draining = self.closing = self.closed = False
        self.watched = env.feed.watched
        self.machine: Machine
        self.dispatcher = Dispatcher(self)
        self.head = self.committed = self.delivered = row.first_seq - 1
        self._draft = Draft()
        self._sending = self._delivering = False
        self._undelivered: deque[tuple[int, events.AnyEvent, bool]] = deque()
        self._commit_waiters: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._held: deque[tuple[int, str, Callable[[], None]]] = deque()
        self._patch_seq = 0
        self._idle_head = -1
        self._taken: set[int] = set()
        self._answered: set[str] = set()
        self._bug: CadenzaError | None = None
        self._bytes = 0
        self._last_at = 0
        self._end: End = "ended"
        self.last: events.AnyEvent | None = None
        self.detail = ""

    # --- begin ----------------------------------------------------------------------------------------------------

    def begin(self, journal: list[events.AnyEvent] | None = None) -> None:
        """Load and replay the journal, then do what is left to do. ``journal`` spares the load of a run just created."""
        fresh = journal is not None
        try:
            workflow = find_workflow(self.row.workflow)
            if journal is None:
                journal = self.env.store.events(self.row.no, self.row.first_seq)
            self._replay(Machine(workflow, [] if self.env.options.verify_replay else None), journal)
        except (WorkflowBug, UnknownName) as bug:
            if journal is not None:
                self.head = self.committed = self.delivered = self.row.first_seq - 1 + len(journal)
            self.block(bug)
            return
        except CadenzaError as error:
            self._close("broken", error)
            return
        self.dispatcher.resume(self.machine.take_commands())
        if not fresh:
            self.take_letters()
        self._deliver()
        self.settle()

    def _replay(self, machine: Machine, journal: list[events.AnyEvent]) -> None:
        self.machine = machine
        for event in journal:
            self.ledger.note(event)
            self._weigh(event)
            if self.watched and isinstance(event, events.StepCompleted):
                self.tell(event.path, "step", event.name.rpartition(":")[2].rpartition(".")[2], "replayed")
        self.head = self.committed = self.delivered = self.row.first_seq - 1 + len(journal)
        self._last_at = max(event.at for event in journal)
        self.env.watchdog.guard(machine, lambda: machine.replay(journal))

    # --- the journal ----------------------------------------------------------------------------------------------

    def now(self) -> int:
        """Microseconds since 1970; never before the run's last event."""
        now = self.env.clock.now()
        if now > self._last_at:
            self._last_at = now
        return self._last_at

    def record(
        self,
        event: events.AnyEvent,
        *,
        consumed: int = 0,
        posting: Posting | None = None,
        child: NewRun | None = None,
        task_opened: OpenTaskRow | None = None,
        task_closed: str = "",
    ) -> int:
        """Append ``event`` with all that belongs to it; returns its sequence number."""
        assert not self.closing, f"{event} after the end"
        if self.closed:
            return self.head
        self.head += 1
        draft = self._draft
        draft.events.append(event)
        self.ledger.note(event)
        if consumed:
            draft.consumed.append(consumed)
        if posting is not None:
            draft.postings.append(posting)
        if child is not None:
            draft.children.append(child)
        if task_opened is not None:
            draft.tasks_opened.append(task_opened)
        if task_closed:
            draft.tasks_closed.append(task_closed)
        self._weigh(event)
        if not self._sending:
            self._flush()
        return self.head

    def record_behind(self, event: events.AnyEvent) -> None:
        """Append without waiting; nothing is lost that could not be made again."""
        if not self.closing:
            self.record(event)

    async def commit(self, event: events.AnyEvent) -> None:
        """Append, and wait until it is on disk. A runner that is lost cancels whoever waits."""
        seq = self.record(event)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.closed:
            future.cancel()
        self._commit_waiters.append((seq, future))
        await future

    def outcome(self, event: events.Outcome, *, behind: bool = False, consumed: int = 0) -> None:
        """Append an outcome and deliver it in its turn: at once if it may be lost, else when it is committed."""
        if self.closed or self.closing:
            return
        seq = self.record(event, consumed=consumed, task_closed=self._closes(event))
        self._undelivered.append((seq, event, behind))
        self._deliver()

    def _closes(self, event: events.Outcome) -> str:
        return event.path if isinstance(event, events.TaskAnswered) else ""

    def _weigh(self, event: events.AnyEvent) -> None:
        field = events.PAYLOAD_FIELDS.get(type(event))
        self._bytes += 120 + (len(getattr(event, field)) if field else 0)
        count, options = self.head - self.row.first_seq + 1, self.env.options
        if count > options.journal_events_max or self._bytes > options.journal_bytes_max:
            if self._bug is None and not self.closing and self.head > self.committed:
                self._bug = JournalFull(f"{count:,} events and {self._bytes:,} bytes")
        elif count == options.journal_events_max // 2:
            self.tell("", "run", self.row.workflow, "warning", "the journal is half full; use ctx.continue_as_new")
            log.warning("run %s: its journal is half full (%d events); use ctx.continue_as_new", self.row.run_id, count)

    def _flush(self) -> None:
        draft = self._draft
        if self._sending or self.closed or draft.empty:
            return
        self._draft, self._sending = Draft(), True
        head = self.head
        operation = Append(
            self.row.no,
            self.row.epoch,
            head - len(draft.events),
            self.env.clock.now(),
            tuple(draft.events),
            tuple(draft.consumed),
            tuple(draft.postings),
            tuple(draft.children),
            tuple(draft.tasks_opened),
            tuple(draft.tasks_closed),
            draft.change,
        )
        self.env.store.submit(operation, lambda _, error: self._sent(operation, head, error))

    def _sent(self, operation: Append, head: int, error: Exception | None) -> None:
        self._sending = False
        if self.closed:
            return
        if error is not None:
            self._close("lost" if isinstance(error, Fenced) else "broken", error)
            return
        self.committed = head
        if operation.change is not None and operation.change.release:
            self._close(self._end)
            return
        if operation.children or operation.postings:
            self.env.nudge()
        failpoint("before_delivery")
        waiters = self._commit_waiters
        while waiters and waiters[0][0] <= head:
            future = waiters.popleft()[1]
            if not future.done():
                future.set_result(None)
        if operation.change is not None:
            self._next_generation(operation)
        self._deliver()
        self._release()
        self._flush()
        self.settle()

    # --- delivery and the read barrier ----------------------------------------------------------------------------

    def _deliver(self) -> None:
        if self._delivering or self.closed:
            return
        self._delivering = True
        machine, queue = self.machine, self._undelivered
        try:
            while queue and self._bug is None:
                seq, event, behind = queue[0]
                if seq > self.committed and not behind:
                    break
                queue.popleft()
                self.delivered = seq
                self.env.watchdog.apply(machine, event)
                for command in machine.take_commands():
                    self.dispatcher.dispatch(command)
        except WorkflowBug as bug:
            self.block(bug)
        finally:
            self._delivering = False
        if self._bug is not None or machine.finished:
            self.settle_soon()

    def gate(self, path: str, start: Callable[[], None]) -> None:
        """Call ``start`` once everything that was delivered until now is committed (rule 1)."""
        barrier = max(self.delivered, self._patch_seq)
        if self.committed >= barrier:
            start()
        else:
            self._held.append((barrier, path, start))

    def raise_barrier(self, seq: int) -> None:
        self._patch_seq = seq

    def _release(self) -> None:
        held = self._held
        while held and held[0][0] <= self.committed and not self.closed:
            _, path, start = held.popleft()
            if path in self.machine.open:
                start()

    def still_owner(self, *, strict: bool) -> bool:
        """Whether effects may start (rule 5). If the lease is in doubt, or ``strict``, the epoch is read anew."""
        if not strict and self.env.lease.valid():
            return True
        try:
            epoch = self.env.store.epoch(self.row.no)
        except CadenzaError as error:
            self._close("broken", error)
            return False
        if epoch == self.row.epoch:
            return True
        self._close("lost", Fenced(self.row.run_id, self.row.epoch, f"the epoch is {epoch} now"))
        return False

    # --- the inbox ------------------------------------------------------------------------------------------------

    def take_letters(self) -> None:
        """Journal what waits in the inbox."""
        if self.closed or self.closing or self._bug is not None:
            return
        for letter in self.env.store.letters(self.row.no):
            if letter.id not in self._taken and not (self.closing or self.machine.finished):
                self._taken.add(letter.id)
                self._take(letter)

    def _take(self, letter: Letter) -> None:
        event = letter.event
        stale = letter.generation not in (-1, self.machine.generation)
        if isinstance(event, events.TaskAnswered) and not stale:
            execution = self.executions.get(event.path)
            if execution is not None:
                execution.answered(codec.decode(event.answer, Answer, "the answer"), letter.id)
                return
            stale = event.path in self._answered or event.path not in self.machine.open
            self._answered.add(event.path)
            self.tell(event.path, "ask", "ask", "answered")
        elif isinstance(event, events.CancelRequested):
            stale = stale or self.machine.cancel_reason is not None
        if stale:
            self._draft.consumed.append(letter.id)
            self._flush()
            return
        self.outcome(events.stamped(event, self.now()), consumed=letter.id)

    # --- leaving --------------------------------------------------------------------------------------------------

    def settle_soon(self) -> None:
        self.env.loop.call_soon(self.settle)

    def settle(self) -> None:
        """Park, finish, block or release the run, if nothing is in flight."""
        if self.closed or self.closing or self._sending or not self._draft.empty or self._delivering:
            return
        if any(not execution.idle for execution in self.executions.values()) or self.dispatcher.sending:
            return
        if self._bug is not None:
            self._leave("blocked", Change("blocked", detail=str(self._bug)))
        elif self._undelivered or self._held:
            return
        elif self.dispatcher.ending is not None:
            self._finish(self.dispatcher.ending)
        elif self.draining and self.dispatcher.runnable():
            self._leave("released", Change("ready"))
        else:
            due = self.dispatcher.next_due()
            if self.draining or not self._linger(due):
                waiting = tuple(self.machine.waiting_for()[:50])
                parked = events.Parked(at=self.now(), waiting=waiting, wake_at=due)
                self._leave("parked", Change("waiting", wake_at=due), parked)

    def _linger(self, due: int) -> bool:
        """Stay in memory for a moment: what a run waits for often comes at once, and a replay would cost more."""
        linger_s = self.env.options.linger_s
        if due and due - self.now() <= linger_s * 1_000_000:
            return True
        if self._idle_head == self.head or not self.env.roomy():
            return False
        self._idle_head = self.head
        self.env.loop.call_later(linger_s, self.settle)
        return True

    def _leave(self, end: End, change: Change, *last: events.AnyEvent) -> None:
        self._end, self.closing = end, True
        self.last, self.detail = (last[0] if last else None), change.detail
        self.head += len(last)
        self._draft.events.extend(last)
        self._draft.change = change
        self._flush()

    def _finish(self, ending: commands.Ending) -> None:
        last, change, posting = self.dispatcher.closing_events(ending)
        if posting is not None:
            self._draft.postings.append(posting)
        self._leave("blocked" if change.status == "blocked" else "ended", change, *last)

    def fail(self, error: Exception) -> None:
        """The store is gone: stop, and let the worker take the run up again."""
        self._close("broken", error)

    def close_task(self, path: str) -> None:
        """Nobody need answer this any more."""
        self._draft.tasks_closed.append(path)

    def _next_generation(self, operation: Append) -> None:
        """The run has continued as new: go on in place, with a fresh machine."""
        started = operation.events[-1]
        assert isinstance(started, events.RunStarted)
        self.verify()
        self.env.renumber(self, started.generation, self.head)
        self.closing = False
        self.ledger, self.executions = Ledger(), {}
        self._bytes, self._patch_seq = 0, 0
        self._answered.clear()
        self.dispatcher = Dispatcher(self)
        trace: list[str] | None = [] if self.env.options.verify_replay else None
        self.machine = Machine(self.machine.workflow, trace)
        self._undelivered.append((self.head, started, False))
        self._taken.clear()
        self.take_letters()

    def block(self, bug: CadenzaError) -> None:
        """The code is at fault: nothing more is delivered; what is in flight is still written down."""
        if self._bug is None:
            self._bug = bug
        if hasattr(self, "machine"):
            self.machine.evict()
        self.tell("", "run", self.row.workflow, "blocked", str(bug))
        self.settle_soon()

    def drain(self) -> None:
        """Start no more steps; release the run when those in flight have ended."""
        self.draining = True
        self.settle()

    def _close(self, end: End, error: Exception | None = None) -> None:
        if self.closed:
            return
        self.closed = True
        self.dispatcher.drop()
        for execution in list(self.executions.values()):
            execution.drop()
        for _, future in self._commit_waiters:
            future.cancel()
        failpoint("in_eviction")
        if hasattr(self, "machine"):
            if end == "ended":
                self.verify()
            for name in self.machine.evict():
                log.error("run %s: task %s swallows BaseException and would not end", self.row.run_id, name)
        if end == "parked":
            self.tell("", "run", self.row.workflow, "parked")
        self._on_end(self, end, error)

    def verify(self) -> None:
        """Development mode: replay what was just finished, and compare every command (rule: live equals replay)."""
        trace = self.machine.trace
        if trace is None:
            return
        journal = self.env.store.events(self.row.no, self.row.first_seq)
        last = next((i for i, each in enumerate(journal) if isinstance(each, events.TERMINALS)), len(journal) - 1)
        twin = Machine(self.machine.workflow, [])
        try:
            twin.replay(journal[: last + 1])
        except (Nondeterminism, Evicted) as error:
            self._warn(str(error))
            return
        for live, again in zip(trace, twin.trace or [], strict=False):
            if live != again:
                self._warn(f"a replay of this run did {again!r} where it had done {live!r}")
                return

    def _warn(self, problem: str) -> None:
        message = f"{problem}. Clocks and randomness come from ctx.now(), ctx.random and ctx.uuid(); try: cadenza check"
        log.error("run %s is not deterministic: %s", self.row.run_id, message)
        self.tell("", "run", self.row.workflow, "warning", message)

    # --- for those who watch --------------------------------------------------------------------------------------

    def tell(self, path: str, kind: str, name: str, state: Any, detail: Any = None) -> None:
        if self.watched:
            self.env.tell(self.row.run_id, path, kind, name, state, detail)

    def progress(self, path: str, name: str, detail: Any) -> None:
        """A heartbeat's detail."""
        self.tell(path, "step", name, "progress", detail)
