"""Claims runs, drives them, parks them, wakes them.

Processes that share a store learn of each other's commits by looking at its version: every 5 ms while there is work,
every 50 ms while there is none (rule 6). Commits of this process need no look: they call ``nudge``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from cadenza.durable.events import AnyEvent
from cadenza.engine.alerts import Herald
from cadenza.engine.environment import Environment
from cadenza.engine.lease import dead_owners, is_dead
from cadenza.engine.retention import Sweeper
from cadenza.engine.runner import End, Runner
from cadenza.engine.store import Claim, Filter, Reclaim, Retire, RunRow, Unblock, perform
from cadenza.errors import CadenzaError, StoreError

log = logging.getLogger("cadenza")
CLAIM_MAX = 64
BURIAL_PAUSE_S = 0.2
RECLAIM_PAUSE_S = (0.05, 5.0)
STOP_S = 1.0
"""How long to wait for the end of steps that were cancelled."""


class Worker:
    """One per engine that runs workflows. ``strays`` is set when a write has failed that may have given it a run.

    A claim may leave ready runs behind: of other families, or over the concurrency of their key. They are not asked for
    again until something was committed (``_left_at`` is when they were left).

    Args:
        env: what its runners share.
        locks: the folder of the owners' file locks, if the store has one.
        on_end: told when a run has left memory, with the way it did.
    """

    def __init__(
        self, env: Environment, locks: Path | None, on_end: Callable[[Runner, End, Exception | None], None]
    ) -> None:
        self.env, self._locks, self._on_end = env, locks, on_end
        env.gone = self._gone
        self.runners: dict[int, Runner] = {}
        env.roomy = lambda: 2 * len(self.runners) <= env.options.slots
        self.run_ids: set[str] = set()
        self.family: set[str] = set()
        self.draining = False
        self.strays = False
        self._claiming = False
        self._claim_again = False
        self._version = -1
        self._due = 0
        self._left_at = 0
        self._buried_s = 0.0
        self._unstoppable: set[asyncio.Task[None]] = set()
        self._pauses: dict[int, float] = {}
        self._coming: set[int] = set()
        self._sweeper, self._herald = Sweeper(env), Herald(env)
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def free_slots(self) -> int:
        return 0 if self.draining else self.env.options.slots - len(self.runners)

    @property
    def busy(self) -> bool:
        return bool(self.runners)

    async def unblock_all(self) -> None:
        """New code may mend what blocked: each worker that starts gives blocked runs one more try."""
        await perform(self.env.store, Unblock("", self.env.clock.now()))

    def look(self) -> None:
        """Look at the store: letters for our runs, runs to claim. Called on the pulse, and by ``nudge``."""
        store = self.env.store
        version, now = store.version(), self.env.clock.now()
        if version != self._version:
            self._version, self._left_at = version, 0
            self._due = store.next_due()
            for no in store.mail(self.env.owner):
                if no in self.runners:
                    self.runners[no].take_letters()
        if self.strays:
            self._take_strays()
        if not self.draining:
            self._sweeper.look()
            self._herald.look()
        dead = self._dead()  # also while something is due: their runs may be what it waits for
        if self._left_at:  # and nothing has changed since
            self._due, self._left_at = store.next_due(self._left_at), 0
        if dead or (self._due and self._due <= now):
            self.claim()

    def take_in(self, root: str) -> None:
        """Drive this family of runs from now on."""
        if root not in self.family:
            self.family.add(root)
            self._version = -1

    def _take_strays(self) -> None:
        """Drive what is this worker's without its knowledge: a write that failed may have been done all the same."""
        rows = self.env.store.runs(Filter(status=("running",), limit=1_000_000))
        self.strays = False
        for row in rows:
            if row.owner == self.env.owner and not self._drives(row, row.epoch) and row.no not in self._coming:
                self._reclaim_later(row, None)

    def _drives(self, row: RunRow, epoch: int) -> bool:
        """Whether this worker drives the run in this epoch or a later one."""
        runner = self.runners.get(row.no)
        return runner is not None and runner.row.epoch >= epoch

    def _dead(self) -> bool:
        """Whether owners are provably gone, or have let their lease expire; looked for now and then."""
        elapsed_s, now = self.env.clock.elapsed_s(), self.env.clock.now()
        if elapsed_s - self._buried_s < BURIAL_PAUSE_S:
            return False
        self._buried_s = elapsed_s
        owners = self.env.store.owners()
        expired = [each for each in owners if each.expires_at < now and each.owner != self.env.owner]
        dead = dead_owners(self._locks, owners, self.env.owner) if self._locks is not None else []
        unlisted = [each.owner for each in expired if not each.expires_at]
        self._found_dead = tuple(sorted({*unlisted, *dead}))  # leases are looked at anew by the claim itself
        return bool(expired or dead)

    _found_dead: tuple[str, ...] = ()

    def _gone(self, owner: str) -> bool:
        """Whether this owner is provably dead, or is this process itself; not so one that only lost its lease."""
        return owner in ("", self.env.owner) or (self._locks is not None and is_dead(self._locks, owner))

    def claim(self) -> None:
        """Take ready runs, as many as there is room for."""
        limit = min(self.free_slots, CLAIM_MAX)
        if limit <= 0 or self.draining:
            return
        if self._claiming:
            self._claim_again = True
            return
        if not self.env.options.adopt_all and not self.family:
            return
        self._claiming = True
        family = () if self.env.options.adopt_all else tuple(sorted(self.family))
        dead, self._found_dead = self._found_dead, ()
        operation = Claim(self.env.owner, limit, self.env.clock.now(), dead, family)

        def done(rows: list[RunRow] | None, error: Exception | None) -> None:
            self._claiming = False
            if isinstance(error, StoreError):
                self.strays = True
            elif len(rows or ()) < limit:
                self._left_at = operation.now
            for row in rows or ():
                self.adopt(row)
            if self._claim_again or len(rows or ()) == limit:
                self._claim_again = False
                self.claim()

        self.env.store.submit(operation, done)

    def adopt(self, row: RunRow, journal: list[AnyEvent] | None = None) -> None:
        """Drive a run that this worker has claimed."""
        before = self.runners.get(row.no)
        if before is not None:  # this process was away for longer than its lease, and has got the run back
            before.lose(row.epoch)
        runner = Runner(self.env, row, self._ended)
        self.runners[row.no] = runner
        self.run_ids.add(row.run_id)
        self._idle.clear()
        if self.draining:
            runner.draining = True
        runner.begin(journal)

    def _ended(self, runner: Runner, end: End, error: Exception | None) -> None:
        row, no = runner.row, runner.row.no
        self.runners.pop(no, None)
        self.run_ids.discard(row.run_id)
        if end == "broken":
            self._reclaim_later(row, error)
        else:
            self._pauses.pop(no, None)
        if not self.runners:
            self._idle.set()
        self._on_end(runner, end, error)
        if end != "broken" and (row.parent or row.concurrency or self.free_slots == 1):
            self.env.nudge()

    def _reclaim_later(self, row: RunRow, error: Exception | None) -> None:
        """A write failed, and nobody knows whether it was done: start from what the store has, in a new epoch."""
        first_s, last_s = RECLAIM_PAUSE_S
        pause_s = self._pauses[row.no] = min(self._pauses.get(row.no, first_s / 2) * 2, last_s)
        log.warning("run %s: %s; trying again in %.2f s", row.run_id, error or "taken by a failed write", pause_s)

        self._coming.add(row.no)

        def done(again: RunRow | None, failed: Exception | None) -> None:
            self._coming.discard(row.no)
            if isinstance(failed, StoreError):
                self._reclaim_later(row, failed)
            elif again is not None:
                self.adopt(again)
            else:
                self._pauses.pop(row.no, None)

        def reclaim() -> None:
            if self.draining or self._drives(row, row.epoch + 1):  # it came back through a claim
                self._coming.discard(row.no)
            else:
                self.env.store.submit(Reclaim(row.no, self.env.owner), done)

        self.env.loop.call_later(pause_s, reclaim)

    async def drain(self, grace_s: float) -> None:
        """Claim nothing more, let the steps in flight end (at most ``grace_s`` seconds), and release every run."""
        self.draining = True
        await self._herald.close()
        for runner in list(self.runners.values()):
            runner.drain()
        try:
            async with asyncio.timeout(grace_s):
                await self._idle.wait()
        except TimeoutError:
            log.warning("%d runs still have steps in flight; others will take them over", len(self.runners))
        await self._stop_steps()
        try:
            await perform(self.env.store, Retire(self.env.owner, self.env.clock.now()))
        except CadenzaError as error:
            log.warning("the worker could not sign off: %s", error)
        await self._stop_steps()  # of runs that a claim under way has brought meanwhile

    async def _stop_steps(self) -> None:
        """Cancel what is in flight, so that nothing goes on here beside those who take the runs over."""
        tasks = [task for runner in list(self.runners.values()) for task in runner.abandon()]
        if tasks:
            _, pending = await asyncio.wait(tasks, timeout=STOP_S)
            self._unstoppable |= pending

    @property
    def stopped(self) -> bool:
        """After ``drain``: whether all tasks of steps have ended. Threads are not asked."""
        return all(task.done() for task in self._unstoppable)
