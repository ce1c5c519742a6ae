"""One machine and one store: activation by activation.

Invariants:
    - Events get their sequence number here, in the order of arrival, and are delivered in that order.
    - ``delivered`` may be ahead of the disk only by events that may be lost: read outcomes, timers, patches. No
      effect stronger than read starts while it is (the read barrier, rule 1).
    - Whatever leaves the process with an append (children, letters, tasks, results) is behind the barrier by itself.
    - After a refused append the runner does nothing more: somebody else owns the run, or the store is gone.
"""

from __future__ import annotations

import logging
from asyncio import Task
from collections import deque
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from cadenza.durable import codec, commands, events
from cadenza.durable.define import find_workflow
from cadenza.durable.human import Answer
from cadenza.durable.ledger import Ledger
from cadenza.durable.machine import Machine
from cadenza.engine.dispatch import Dispatcher
from cadenza.engine.environment import Environment
from cadenza.engine.execution import Execution
from cadenza.engine.failpoint import failpoint
from cadenza.engine.journal import JournalWriter
from cadenza.engine.live import State
from cadenza.engine.store import Append, Change, Letter, Posting, RunRow
from cadenza.engine.verify import difference
from cadenza.errors import CadenzaError, Fenced, JournalFull, StoreCorrupt, StoreError, UnknownName, WorkflowBug

log = logging.getLogger("cadenza")
End = Literal["parked", "ended", "blocked", "released", "lost", "broken"]
ENDED_AS: dict[type[Any], State] = {events.RunFailed: "failed", events.RunCancelled: "cancelled"}


class Runner:
    """Drives one run that this process owns, until it is parked, ended, blocked or lost; then calls ``on_end``."""

    def __init__(self, env: Environment, row: RunRow, on_end: Callable[[Runner, End, Exception | None], None]) -> None:
        self.env, self.row = env, row
        self._on_end = on_end
        self.executions: dict[str, Execution] = {}
        self.draining = self.closed = False
        self.watched = env.feed.watched
        self.machine: Machine
        self.journal = JournalWriter(env, row, self)
        self.dispatcher = Dispatcher(self)
        self.delivered = self.journal.on_disk
        self._delivering = False
        self._undelivered: deque[tuple[int, events.AnyEvent, bool]] = deque()
        self._held: deque[tuple[int, str, Callable[[], None]]] = deque()
        self._patch_seq = 0
        self._term = -1
        self._idle_head = -1
        self._taken: set[int] = set()
        self._answered: set[str] = set()
        self._bug: CadenzaError | None = None
        self._last_at = 0
        self._end: End = "ended"
        self.last: events.AnyEvent | None = None
        self.detail = ""

    @property
    def ledger(self) -> Ledger:
        return self.journal.ledger

    @property
    def closing(self) -> bool:
        """Whether the last append is on its way."""
        return self.journal.closing

    # --- begin ----------------------------------------------------------------------------------------------------

    def begin(self, journal: list[events.AnyEvent] | None = None) -> None:
        """Load the journal, unless the run was just created with ``journal``; replay it; do what is left to do."""
        fresh = journal is not None
        self.tell("", "run", self.row.workflow, "started" if self.row.epoch <= 1 else "resumed")
        try:
            workflow = find_workflow(self.row.workflow)
            if journal is None:
                journal = self.env.store.events(self.row.no, self.row.first_seq)
            self._replay(Machine(workflow, [] if self.env.options.verify_replay else None), journal)
        except (WorkflowBug, UnknownName, StoreCorrupt) as bug:
            if journal is None:
                self.journal.unread()
            else:
                self.journal.loaded(journal)
            self.block(bug)
            return
        except CadenzaError as error:
            self._close("broken", error)
            return
        except Exception as error:
            self.block(_unforeseen(error))
            return
        self.journal.hold()
        self.dispatcher.resume(self.machine.take_commands())
        self.journal.let_go()
        if not fresh:
            self.take_letters()
        self._deliver()
        self.settle()

    def _replay(self, machine: Machine, journal: list[events.AnyEvent]) -> None:
        self.machine = machine
        self.journal.loaded(journal)
        self.delivered = self.journal.on_disk
        self._last_at = max(event.at for event in journal)
        if self.watched:
            for event in journal:
                if isinstance(event, events.StepCompleted):
                    self.tell(event.path, "step", event.path.rpartition("/")[2].partition("#")[0], "replayed")
        self.env.watchdog.guard(machine, lambda: machine.replay(journal))

    # --- the journal ----------------------------------------------------------------------------------------------

    def now(self, not_before: int = 0) -> int:
        """Microseconds since 1970; never before the run's last event, nor before ``not_before``."""
        self._last_at = max(self._last_at, self.env.clock.now(), not_before)
        return self._last_at

    def outcome(self, event: events.Outcome, *, behind: bool = False, consumed: int = 0) -> None:
        """Append an outcome and deliver it in its turn: at once if it may be lost, else when it is on disk."""
        if self.closed or self.journal.closing:
            return
        answered = event.path if isinstance(event, events.TaskAnswered) else ""
        seq = self.journal.record(event, consumed=consumed, task_closed=answered, behind=behind)
        self._undelivered.append((seq, event, behind))
        if behind:
            self._deliver()

    def committed(self, operation: Append) -> None:
        """An append is on disk: deliver what waited for it, start what was held."""
        if operation.children or operation.postings:
            self.env.nudge()
        if operation.change is not None:
            if operation.change.release:
                self._close(self._end)
                return
            self._next_generation(operation)
        failpoint("before_delivery")
        self._deliver()
        if self._held:
            self._release()
        self.settle()

    def refused(self, error: Exception) -> None:
        """Nothing can be written: the run is not ours any more, or the store is gone."""
        self._close("lost" if isinstance(error, Fenced) else "broken", error)

    def full(self, bug: JournalFull) -> None:
        """The journal is over its bound: stop, unless the run is at its end."""
        if self._bug is None and hasattr(self, "machine") and not self.machine.finished:
            self._bug = bug

    # --- delivery and the read barrier ----------------------------------------------------------------------------

    def _deliver(self) -> None:
        if self._delivering or self.closed:
            return
        self._delivering = True
        machine, queue, journal = self.machine, self._undelivered, self.journal
        journal.hold()
        try:
            while queue and self._bug is None:
                seq, event, behind = queue[0]
                if seq > journal.on_disk and not behind:
                    break
                queue.popleft()
                self.delivered = seq
                self.env.watchdog.apply(machine, event)
                for command in machine.take_commands():
                    self.dispatcher.dispatch(command)
        except CadenzaError as bug:
            self.block(bug)
        except Exception as error:
            self.block(_unforeseen(error))
        finally:
            self._delivering = False
            journal.let_go()
        if self._bug is not None or machine.finished:
            self.settle_soon()

    def gate(self, path: str, start: Callable[[], None], after: int = 0) -> None:
        """Call ``start`` once everything that was delivered until now, and the event ``after``, is on disk (rule 1)."""
        barrier = max(self.delivered, self._patch_seq, after)
        if self.journal.on_disk >= barrier:
            start()
        else:
            self._held.append((barrier, path, start))
            self.journal.hurry()

    def raise_barrier(self, seq: int) -> None:
        self._patch_seq = seq

    def _release(self) -> None:
        held = self._held
        while held and held[0][0] <= self.journal.on_disk and not self.closed:
            _, path, start = held.popleft()
            if path in self.machine.open:
                start()

    def still_owner(self, *, strict: bool) -> bool:
        """Whether effects may start (rule 5). If the lease has been in doubt, or ``strict``, the epoch is read anew."""
        lease = self.env.lease
        if not strict and lease.valid() and lease.term == self._term:
            return True
        term = lease.term
        try:
            epoch = self.env.store.epoch(self.row.no)
        except CadenzaError as error:
            self._close("broken", error)
            return False
        if epoch != self.row.epoch:
            self.lose(epoch)
            return False
        self._term = term
        return True

    def lose(self, epoch: int) -> None:
        """The run is driven in a later ``epoch`` now: do nothing more."""
        self._close("lost", Fenced(self.row.run_id, self.row.epoch, f"the epoch is {epoch} now"))

    # --- the inbox ------------------------------------------------------------------------------------------------

    def take_letters(self) -> None:
        """Journal what waits in the inbox."""
        if self.closed or self.closing or self._bug is not None:
            return
        try:
            letters = self.env.store.letters(self.row.no)
        except StoreError as error:
            self.block(error) if isinstance(error, StoreCorrupt) else self._close("broken", error)
            return
        for letter in letters:
            if letter.id not in self._taken and not (self.closing or self.machine.finished):
                self._taken.add(letter.id)
                self._take(letter)

    def _take(self, letter: Letter) -> None:
        event = letter.event
        stale = letter.generation not in (-1, self.machine.generation)
        if isinstance(event, events.TaskAnswered) and not stale:
            execution = self.executions.get(event.path)
            doubted = execution is not None and execution.in_doubt and self.ledger.open(event.path)
            if execution and doubted and event.asked_at in (0, doubted.doubt_at):  # else it answers an earlier question
                execution.answered(codec.decode(event.answer, Answer, "the answer"), letter.id)
                return
            asked = self.machine.open.get(event.path)
            stale = asked is None or not isinstance(asked.command, commands.OpenTask) or event.path in self._answered
            self._answered.add(event.path)
            self.tell(event.path, "ask", "ask", "answered")
        elif isinstance(event, events.CancelRequested):
            stale = stale or self.machine.cancel_reason is not None
        if stale:
            self.journal.consume(letter.id)
            return
        self.outcome(events.stamped(event, self.now()), consumed=letter.id)

    # --- leaving --------------------------------------------------------------------------------------------------

    def settle_soon(self) -> None:
        self.env.loop.call_soon(self.settle)

    def settle(self) -> None:
        """Park, finish, block or release the run, if nothing is in flight."""
        if self.closed or self._delivering or self.journal.closing or self.dispatcher.sending:
            return
        if any(not execution.idle for execution in self.executions.values()):
            return
        if not self.journal.settled:
            self.journal.hurry()
        elif self._bug is not None:
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
        if self._idle_head == self.journal.head or not self.env.roomy():
            return False
        self._idle_head = self.journal.head
        self.env.loop.call_later(linger_s, self.settle)
        return True

    def _leave(self, end: End, change: Change, *last: events.AnyEvent, posting: Posting | None = None) -> None:
        self._end = end
        self.last, self.detail = (last[0] if last else None), change.detail
        self.journal.leave(change, posting, last)

    def _finish(self, ending: commands.Ending) -> None:
        last, change, posting = self.dispatcher.closing_events(ending)
        self._leave("blocked" if change.status == "blocked" else "ended", change, *last, posting=posting)

    def _next_generation(self, operation: Append) -> None:
        """The run has continued as new: go on in place, with a fresh machine."""
        started = operation.events[-1]
        assert isinstance(started, events.RunStarted)
        self.verify()
        generation = {"generation": started.generation, "first_seq": self.journal.head}
        self.row = msgspec.structs.replace(self.row, **generation)
        self.journal.begin(self.row)
        self.executions = {}
        self._patch_seq = 0
        self._answered.clear()
        self.dispatcher = Dispatcher(self)
        self.machine = Machine(self.machine.workflow, [] if self.env.options.verify_replay else None)
        self._undelivered.append((self.journal.head, started, False))
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

    def abandon(self) -> list[Task[None]]:
        """Cancel what is in flight, and do nothing more; returns the cancelled tasks."""
        tasks = [each.task for each in self.executions.values() if each.task]
        self._close("released")
        return tasks

    def _close(self, end: End, error: Exception | None = None) -> None:
        if self.closed:
            return
        self.closed = True
        self.dispatcher.drop()
        for execution in list(self.executions.values()):
            execution.drop()
        self.journal.close()
        failpoint("in_eviction")
        if hasattr(self, "machine"):
            if end == "ended":
                self.verify()
            for name in self.machine.evict():
                log.error("run %s: task %s swallows BaseException and would not end", self.row.run_id, name)
        if end == "parked":
            self.tell("", "run", self.row.workflow, "parked")
        elif end == "ended":
            self.tell("", "run", self.row.workflow, ENDED_AS.get(type(self.last), "completed"))
        self._on_end(self, end, error)

    def verify(self) -> None:
        """Development mode: compare the machine with a replay of what it has just finished."""
        if self.machine.trace is None:
            return
        try:
            problem = difference(self.machine, self.env.store.events(self.row.no, self.row.first_seq))
        except StoreError as error:
            log.warning("run %s was not verified: %s", self.row.run_id, error)
            return
        if problem:
            log.error("run %s is not deterministic: %s", self.row.run_id, problem)
            self.tell("", "run", self.row.workflow, "warning", problem)

    # --- for those who watch --------------------------------------------------------------------------------------

    def tell(self, path: str, kind: str, name: str, state: Any, detail: Any = None) -> None:
        if self.watched:
            self.env.tell(self.row.run_id, path, kind, name, state, detail)

    def progress(self, path: str, name: str, detail: Any) -> None:
        """A heartbeat's detail."""
        self.tell(path, "step", name, "progress", detail)


def _unforeseen(error: Exception) -> CadenzaError:
    """A mistake of ours: the run blocks with it, instead of being waited for in vain."""
    log.exception("an error inside of Cadenza", exc_info=error)
    return CadenzaError(
        f"an error inside of Cadenza ({type(error).__name__}: {error}). Please report it; nothing was lost"
    )
