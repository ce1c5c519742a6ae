"""What an engine does while it is open: it holds a lease, drives runs, and looks at the store again and again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from cadenza.durable.define import WorkflowFunction
from cadenza.durable.events import RunStarted
from cadenza.durable.versioning import ENGINE_FLAGS
from cadenza.engine.catalogue import Catalogue
from cadenza.engine.clock import Clock
from cadenza.engine.companion import Companion, Company, companions
from cadenza.engine.dispatch import new_run
from cadenza.engine.environment import Environment
from cadenza.engine.finding import find_run
from cadenza.engine.lease import FileLock, LeaseKeeper, new_owner
from cadenza.engine.live import Feed
from cadenza.engine.options import EngineOptions
from cadenza.engine.run_id import new_run_id
from cadenza.engine.steps import Threads
from cadenza.engine.store import Conflict, Create, NewRun, Operation, RunRow, Store, perform
from cadenza.engine.waiting import Ended, Waiting
from cadenza.engine.watchdog import Watchdog
from cadenza.engine.worker import Worker
from cadenza.errors import StoreError, UsageError

R = TypeVar("R")


class Service:
    """One opening of a store by an ``owner``; ``worker`` is None until it is open, and where none is wanted.

    A simulator derives from it: other time, another lease, other beats.
    """

    lease_keeper: type[LeaseKeeper] = LeaseKeeper
    companions: Sequence[Companion] = companions

    def __init__(self, store: Store, options: EngineOptions, clock: Clock, chance: random.Random) -> None:
        self.store, self.options, self.clock, self.chance = store, options, clock, chance
        self.catalogue = Catalogue(getattr(store, "path", None))
        self.feed = Feed()
        self.owner = new_owner(chance)
        self.worker: Worker | None = None
        self.waiting = Waiting(store)
        self.threads = Threads(options.threads)
        self.watchdog: Watchdog
        self.lease: LeaseKeeper
        self.lock: FileLock | None = None
        self.pulse: asyncio.TimerHandle | None = None
        self._company = Company()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._nudged = False

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop on which it is open. Raises UsageError if it is not."""
        if self._loop is None:
            raise UsageError("the engine is not open; use: async with Engine.open(...) as engine:")
        return self._loop

    @property
    def here(self) -> set[str]:
        """Ids of the runs that this process drives now: their end is told without a look at the store."""
        return self.worker.run_ids if self.worker is not None else set()

    async def open(self) -> None:
        """Open the store, take up the lease, and begin to beat. Raises StoreError, and leaves nothing open then."""
        loop = self._loop = asyncio.get_running_loop()
        self.store.open(loop)
        try:
            await self._serve(loop)
        except BaseException:
            await self.close(0.0)
            raise

    async def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        self.watchdog = Watchdog(self.clock, self.options.stall_s)
        self.lease = self.lease_keeper(self.store, self.clock, self.owner, self.options.lease_s, self.watchdog.look)
        if self.options.worker:
            locks: Path | None = getattr(self.store, "locks", None)
            if locks is not None:
                self.lock = FileLock(locks, self.owner)
            self.worker = Worker(self.environment(loop), locks, self.waiting.run_ended)
            self.lease.start()
            if self.options.adopt_all:
                await self.worker.unblock_all()
            self.worker.claim()
            if locks is not None:  # nobody else sees a store in memory
                self._company.begin(self.companions, self.catalogue, self.owner)
        self.beat()

    def environment(self, loop: asyncio.AbstractEventLoop) -> Environment:
        """What the worker works with; made once, when it opens."""
        return Environment(
            store=self.store,
            clock=self.clock,
            options=self.options,
            feed=self.feed,
            threads=self.threads,
            lease=self.lease,
            watchdog=self.watchdog,
            loop=loop,
            chance=self.chance,
            owner=self.owner,
            catalogue=self.catalogue,
            nudge=self.nudge,
        )

    async def close(self, grace_s: float) -> None:
        """Drain: wait up to ``grace_s`` seconds for steps in flight, stop them, release the runs, close the store.

        The file lock is held for as long as something cannot be stopped (a thread, a task that swallows its
        cancellation): until then nobody can know that it has not happened.
        """
        if self._loop is None:
            return
        if self.worker is not None:
            await self.worker.drain(grace_s)
        await self._company.end()
        self.leave()

    def leave(self) -> None:
        """Stop the lease and the beats, and close the store; the file lock goes with the last thread."""
        if self.worker is not None:
            self.lease.stop()
        if self.pulse is not None:
            self.pulse.cancel()
        self.waiting.close()
        self.catalogue.close()
        self.store.close()
        self.threads.close(self._release_lock)
        self._loop = None

    def _release_lock(self) -> None:
        if self.lock is not None and self.worker is not None and self.worker.stopped:
            self.lock.release()

    # --- looking at the store -------------------------------------------------------------------------------------

    def beat(self) -> None:
        """Look at the store, then again after a pause that depends on whether there is work."""
        busy = bool(self.waiting) or (self.worker is not None and self.worker.busy)
        pause_s = self.options.poll_busy_s if busy else self.options.poll_idle_s
        self.pulse = self.loop.call_later(pause_s, self.beat)
        self.look_now()

    def nudge(self) -> None:
        """Look at the store in the next round of the loop."""
        if self._loop is not None and not self._nudged:
            self._nudged = True
            self._loop.call_soon(self._look_soon)

    def _look_soon(self) -> None:
        self._nudged = False
        if self._loop is not None:
            self.look_now()

    def look_now(self) -> None:
        """Look at the store; those who wait for runs are told if it fails."""
        try:
            self.look()
        except StoreError as error:
            self.waiting.fail(error)

    def look(self) -> None:
        """See what others have written, and take up what is due. Raises StoreError."""
        if self.worker is not None:
            self.worker.look()
        self.waiting.look(self.here)

    async def ended(self, run_id: str) -> Ended:
        """Wait until a run has ended or is blocked."""
        assert self.loop, "it is open"
        if run_id not in self.here:
            row = find_run(self.store, run_id)
            if (ended := self.waiting.how_ended(row)) is not None:
                return ended
            run_id = row.run_id
        return await self.waiting.add(run_id)

    # --- writing to it --------------------------------------------------------------------------------------------

    async def perform(self, operation: Operation[R]) -> R:
        """Write something that may concern a run of this process. Raises as the operation does."""
        assert self.loop, "it is open"
        result = await perform(self.store, operation)
        self.nudge()
        return result

    async def start(
        self, workflow: WorkflowFunction[..., Any], input: bytes, priority: int, business_id: str, on_conflict: Conflict
    ) -> RunRow:
        """Write a new run; if a worker here has room for it, it is claimed in the same transaction."""
        now = self.clock.now()
        run_id = new_run_id(now, self.chance)
        started = RunStarted(at=now, run_id=run_id, workflow=workflow.name, input=input, flags=ENGINE_FLAGS)
        claim_now = self.worker is not None and self.worker.free_slots > 0 and not workflow.options.concurrency
        owner = self.owner if claim_now else ""
        return await self._create(
            new_run(started, priority, business_id=business_id, on_conflict=on_conflict, owner=owner)
        )

    async def _create(self, new: NewRun) -> RunRow:
        """The run is driven from here, if it is ours, also when nobody waits for its start any more."""
        created: asyncio.Future[RunRow] = self.loop.create_future()
        worker = self.worker

        def done(result: tuple[RunRow, bool] | None, error: Exception | None) -> None:
            if worker is not None and result is not None:
                worker.take_in(result[0].root)
                if result[1] and new.owner:
                    worker.adopt(result[0], [new.started])
                else:
                    self.nudge()
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
