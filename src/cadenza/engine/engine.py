"""Engine: start runs, wait for them, talk to them. The one object that people and programs outside of workflows use."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from cadenza.durable import codec, events
from cadenza.durable.define import WorkflowFunction, find_workflow
from cadenza.durable.human import Answer, HumanTask
from cadenza.durable.path import is_label
from cadenza.durable.versioning import ENGINE_FLAGS
from cadenza.engine.answering import open_task
from cadenza.engine.clock import Clock, SystemClock
from cadenza.engine.dispatch import new_run
from cadenza.engine.environment import Environment
from cadenza.engine.handle import RunHandle
from cadenza.engine.lease import FileLock, LeaseKeeper, new_owner
from cadenza.engine.live import Feed, Live
from cadenza.engine.memory import MemoryStore
from cadenza.engine.options import EngineOptions
from cadenza.engine.run_id import check_business_id, is_writable, new_run_id
from cadenza.engine.steps import Threads
from cadenza.engine.store import (
    Conflict,
    Create,
    Filter,
    NewRun,
    OpenTaskRow,
    Operation,
    Post,
    Posting,
    RunRow,
    Store,
    Terminate,
    Unblock,
    perform,
)
from cadenza.engine.waiting import Ended, Waiting
from cadenza.engine.watchdog import Watchdog
from cadenza.engine.worker import Worker
from cadenza.errors import StoreError, UnknownName, UsageError

T = TypeVar("T")
R = TypeVar("R")
GRACE_S = 10.0


class Engine:
    """Runs workflows on a store. ``clock`` and ``chance`` are the machine's own; a simulator gives others.

    ``async with Engine.open("cadenza.db") as engine:`` starts it, and drains it at the end: steps in flight end, runs
    are released, and whoever opens the store next goes on with them.
    """

    lease_keeper: type[LeaseKeeper] = LeaseKeeper

    def __init__(
        self,
        store: Store,
        options: EngineOptions | None = None,
        clock: Clock | None = None,
        chance: random.Random | None = None,
    ) -> None:
        self.options = options or EngineOptions()
        self.store = store
        self.clock = clock or SystemClock()
        self.feed = Feed()
        self.chance = chance or random.SystemRandom()
        self.owner = new_owner(self.chance)
        self.worker: Worker | None = None
        self._threads = Threads(self.options.threads)
        self._watchdog: Watchdog
        self._lease: LeaseKeeper
        self._lock: FileLock | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pulse: asyncio.TimerHandle | None = None
        self._waiting = Waiting(store)
        self._nudged = False

    @classmethod
    def open(cls, location: str | Path = "cadenza.db", options: EngineOptions | None = None) -> Engine:
        """An engine on a SQLite file (created if missing), or on memory (``":memory:"``).

        Raises:
            StoreUnavailable, StoreCorrupt, StoreVersion, KeyMissing: the file cannot be used.
        """
        if str(location) == ":memory:":
            return cls(MemoryStore(), options)
        from cadenza.engine.sqlite.store import SQLiteStore  # lazy: apsw is not needed to import cadenza

        return cls(SQLiteStore(location), options)

    # --- life -----------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        loop = self._loop = asyncio.get_running_loop()
        self.store.open(loop)
        try:
            await self._serve(loop)
        except BaseException:
            await self.close(0.0)
            raise
        return self

    async def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        self._watchdog = Watchdog(self.clock, self.options.stall_s)
        self._lease = self.lease_keeper(self.store, self.clock, self.owner, self.options.lease_s, self._watchdog.look)
        if self.options.worker:
            locks: Path | None = getattr(self.store, "locks", None)
            if locks is not None:
                self._lock = FileLock(locks, self.owner)
            self.worker = Worker(self._environment(loop), locks, self._waiting.run_ended)
            self._lease.start()
            if self.options.adopt_all:
                await self.worker.unblock_all()
            self.worker.claim()
        self._beat()

    def _environment(self, loop: asyncio.AbstractEventLoop) -> Environment:
        return Environment(
            store=self.store,
            clock=self.clock,
            options=self.options,
            feed=self.feed,
            threads=self._threads,
            lease=self._lease,
            watchdog=self._watchdog,
            loop=loop,
            chance=self.chance,
            owner=self.owner,
            nudge=self._nudge,
        )

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close(0.5 if kind is not None else GRACE_S)

    async def close(self, grace_s: float = GRACE_S) -> None:
        """Drain: wait up to ``grace_s`` seconds for steps in flight, stop them, release the runs, close the store.

        The file lock is held for as long as something cannot be stopped (a thread, a task that swallows its
        cancellation): until then nobody can know that it has not happened.
        """
        if self._loop is None:
            return
        if self.worker is not None:
            await self.worker.drain(grace_s)
            self._lease.stop()
        if self._pulse is not None:
            self._pulse.cancel()
        self._waiting.close()
        self.store.close()
        self._threads.close(self._release_lock)
        self._loop = None

    def _release_lock(self) -> None:
        if self._lock is not None and self.worker is not None and self.worker.stopped:
            self._lock.release()

    def _beat(self) -> None:
        """Look at the store, then again after a pause that depends on whether there is work."""
        loop = self._running()
        busy = bool(self._waiting) or (self.worker is not None and self.worker.busy)
        pause_s = self.options.poll_busy_s if busy else self.options.poll_idle_s
        self._pulse = loop.call_later(pause_s, self._beat)
        try:
            self._look()
        except StoreError as error:
            self._waiting.fail(error)

    def _look(self) -> None:
        if self.worker is not None:
            self.worker.look()
        self._waiting.look(self._here)

    def _nudge(self) -> None:
        """Look at the store in the next round of the loop."""
        if self._loop is not None and not self._nudged:
            self._nudged = True
            self._loop.call_soon(self._look_now)

    def _look_now(self) -> None:
        self._nudged = False
        if self._loop is not None:
            try:
                self._look()
            except StoreError as error:
                self._waiting.fail(error)

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise UsageError("the engine is not open; use: async with Engine.open(...) as engine:")
        return self._loop

    async def _perform(self, operation: Operation[R]) -> R:
        self._running()
        result = await perform(self.store, operation)
        self._nudge()
        return result

    # --- runs -----------------------------------------------------------------------------------------------------

    async def start(
        self,
        workflow: WorkflowFunction[..., T] | str,
        input: Any = None,
        *,
        id: str = "",
        on_conflict: Conflict = "reject",
        priority: int = 0,
    ) -> RunHandle[T]:
        """Start a run; it is on disk when this returns.

        Args:
            workflow: the function, or its name (``module:qualname``).
            input: fits the workflow's annotation.
            id: a business id, unique among the store's runs; none by default.
            on_conflict: if the id is taken: ``reject`` (DuplicateRun), ``join`` (a handle to that run), or ``replace``
                (that run is cancelled, and the id goes to the new one).
            priority: higher is claimed first.

        Raises:
            UnknownName, InputInvalid, NotSerialisable, PayloadTooLarge, DuplicateRun, UsageError, StoreError.
        """
        check_business_id(id, on_conflict)
        found = find_workflow(workflow) if isinstance(workflow, str) else workflow
        raw = found.encode_input(input)
        now = self.clock.now()
        started = events.RunStarted(
            at=now, run_id=new_run_id(now, self.chance), workflow=found.name, input=raw, flags=ENGINE_FLAGS
        )
        worker = self.worker
        claim_now = worker is not None and worker.free_slots > 0 and not found.options.concurrency
        owner = self.owner if claim_now else ""
        new = new_run(started, priority, business_id=id, on_conflict=on_conflict, owner=owner)
        row = await self._create(new)
        return RunHandle(self, row.run_id, found)

    async def _create(self, new: NewRun) -> RunRow:
        """The run is driven from here, if it is ours, also when nobody waits for its start any more."""
        created: asyncio.Future[RunRow] = self._running().create_future()
        worker = self.worker

        def done(result: tuple[RunRow, bool] | None, error: Exception | None) -> None:
            if worker is not None and result is not None:
                worker.take_in(result[0].root)
                if result[1] and new.owner:
                    worker.adopt(result[0], [new.started])
                else:
                    self._nudge()
            elif worker is not None and isinstance(error, StoreError):
                worker.strays = True
            if created.done():
                return
            if result is not None:
                created.set_result(result[0])
            else:
                created.set_exception(error or StoreError("a run was not created"))

        self.store.submit(Create(new), done)
        return await created

    def handle(self, run_id: str) -> RunHandle[Any]:
        """A handle to a run by its run id, business id, or the beginning of its run id. Raises UnknownName."""
        return RunHandle(self, self.find(run_id).run_id)

    def find(self, run_id: str) -> RunRow:
        """A run as lists show it, by run id, business id, or a run id's beginning. Raises UnknownName."""
        row = self.store.run(run_id) if is_writable(run_id) else None
        if row is not None:
            return row
        recent = self.store.runs(Filter(limit=1_000))
        matches = [each for each in recent if run_id and each.run_id.startswith(run_id) and "." not in each.run_id]
        if len(matches) == 1:
            return matches[0]
        if matches:
            first = ", ".join(each.run_id for each in matches[:5])
            raise UsageError(f"{run_id!r} is the beginning of {len(matches)} runs: {first}")
        hint = "List them with: cadenza runs"
        raise UnknownName("run", run_id, [each.run_id for each in recent[:50]], hint)

    def runs(self, filter: Filter | None = None) -> list[RunRow]:
        """Runs, newest first."""
        return self.store.runs(filter or Filter())

    def journal(self, run_id: str) -> list[events.AnyEvent]:
        """All events of a run, all generations, in order."""
        return self.store.events(self.find(run_id).no)

    async def ended(self, run_id: str) -> Ended:
        """Wait until a run has ended or is blocked."""
        self._running()
        if run_id not in self._here:
            row = self.find(run_id)
            if (ended := self._waiting.how_ended(row)) is not None:
                return ended
            run_id = row.run_id
        return await self._waiting.add(run_id)

    @property
    def _here(self) -> set[str]:
        """Ids of the runs that this process drives now: their end is told without a look at the store."""
        return self.worker.run_ids if self.worker is not None else set()

    def is_settled(self, row: RunRow) -> bool:
        """Whether nothing will happen to a run unless somebody does something: it ended, is blocked, or only waits."""
        if row.ended or row.status == "blocked":
            return True
        if row.status != "waiting" or row.wake_at:
            return False
        children = self.store.runs(Filter(parent=row.run_id, limit=1_000_000))
        return all(self.is_settled(child) for child in children if not child.ended)

    # --- talking to runs ------------------------------------------------------------------------------------------

    async def signal(self, run_id: str, name: str, value: Any = None, *, key: str = "") -> None:
        """Send a run a message; it is on disk when this returns.

        Args:
            key: deduplicates: a second message with the same key is ignored.

        Raises:
            UnknownName, UsageError (the run has ended), InboxFull, NotSerialisable.
        """
        if not is_label(name):
            raise UsageError(f"{name!r} is no name of a message; use letters, digits, '_', '-' and '.'")
        raw = codec.encode(value, Any, f"the message {name!r}")
        letter = events.MessageReceived(at=self.clock.now(), name=name, value=raw)
        await self._post(run_id, letter, key and f"signal:{key}", bounded=True)

    async def cancel(self, run_id: str, reason: str = "cancelled by a person", *, force: bool = False) -> None:
        """Ask a run to stop, clean up and undo. ``force`` ends it without its code: nothing is undone."""
        row = self.find(run_id)
        if row.ended:
            raise UsageError(f"run {row.run_id} is {row.status} already")
        if force:
            await self._perform(Terminate(row.run_id, reason, self.clock.now()))
            if self.worker is not None and (runner := self.worker.runners.get(row.no)) is not None:
                runner.lose(row.epoch + 1)
        else:
            await self._post(row.run_id, events.CancelRequested(at=self.clock.now(), reason=reason))

    async def resume(self, run_id: str) -> RunHandle[Any]:
        """Go on with a run: give a blocked one another try, and take up one that nobody drives."""
        row = self.find(run_id)
        if self.worker is not None:
            self.worker.take_in(row.root)
        if row.status == "blocked":
            await self._perform(Unblock(row.run_id, self.clock.now()))
        self._nudge()
        return RunHandle(self, row.run_id)

    def tasks(self, run_id: str = "") -> list[tuple[OpenTaskRow, HumanTask]]:
        """Questions that wait for a person, oldest first; of one run, or of all."""
        rows = self.store.tasks(self.find(run_id).run_id if run_id else "")
        return [(row, codec.decode(row.task, HumanTask, f"the task at {row.path}")) for row in rows]

    async def answer(self, run_id: str, path: str, answer: Answer, *, asked_at: int = 0) -> None:
        """Answer a question: the one that was asked at ``asked_at``, as ``tasks`` says; by default the one open now.

        Raises:
            UnknownName: it is not open (any more).
            UsageError: an answer waits to be read.
            InputInvalid: the answer does not fit.
        """
        row = self.find(run_id)
        tasks = [each for each in self.tasks(row.run_id) if asked_at in (0, each[0].asked_at)]
        task = open_task(tasks, self.store.letters(row.no), path, answer)
        raw = codec.encode(answer, Answer, "the answer")
        letter = events.TaskAnswered(at=self.clock.now(), path=path, answer=raw, asked_at=task.asked_at)
        await self._post(row.run_id, letter, generation=task.generation)

    async def _post(
        self, run_id: str, event: events.Outcome, key: str = "", generation: int = -1, *, bounded: bool = False
    ) -> None:
        row = self.find(run_id)
        posting = Posting(row.run_id, event, key, generation, bounded)
        await self._perform(Post(posting, self.clock.now()))

    # --- watching -------------------------------------------------------------------------------------------------

    def observe(self, observer: Callable[[Live], None]) -> Callable[[], None]:
        """Call ``observer`` with what happens from now on, on the loop; returns the function that ends it.

        Runs that are already in memory are watched from their next activation on.
        """
        for runner in self.worker.runners.values() if self.worker is not None else ():
            runner.watched = True
        return self.feed.observe(observer)
