"""A process as tests see it: an engine on virtual time that may die at any moment, and its way to the store."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from cadenza.engine.engine import Engine
from cadenza.engine.environment import Environment
from cadenza.engine.options import EngineOptions
from cadenza.engine.service import Service
from cadenza.engine.steps import StandIn
from cadenza.engine.store import Append, Create, Done, Operation, Post, Retire, Store, Terminate
from cadenza.testing.clock import VirtualTime

OPTIONS = EngineOptions(
    adopt_all=True, lease_s=1e9, poll_busy_s=60.0, poll_idle_s=60.0, linger_s=0.0, verify_replay=True
)
"""The lease outlives the jumps of time; another process's death is told at once, as on one host. There is nobody to
poll for. ``RunHandle.settled`` polls every virtual minute."""
FROM_OUTSIDE = (Create, Post, Terminate)
"""What tests do: it reaches the store, whoever has died."""


class ProcessStore:
    """A store as one process sees it. Once the process is ``dead``, nothing that it writes arrives.

    Args:
        crash_at: asked before each append; "lost" kills the process before it, "kept" after it.
        on_crash: called when it was killed so.
    """

    def __init__(
        self, store: Store, crash_at: Callable[[Append], str] = lambda _: "", on_crash: Callable[[], None] | None = None
    ) -> None:
        self._store, self._crash_at, self._on_crash = store, crash_at, on_crash or (lambda: None)
        self.pending = 0
        self.dead = False
        self.on_written: Callable[[], None] = lambda: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """The store itself is opened before the first process, and closed after the last."""

    def close(self) -> None:
        """See ``open``."""

    def submit(self, operation: Operation[Any], done: Done, *, inline: bool = False) -> None:
        if inline:  # the lease's own thread
            if not self.dead:
                self._store.submit(operation, done, inline=True)
            return
        from_outside = isinstance(operation, FROM_OUTSIDE)
        if self.dead and not from_outside:
            return
        fate = self._crash_at(operation) if isinstance(operation, Append) else ""
        if fate == "lost":
            self._die()
            return
        self.pending += 1

        def written(result: Any, error: Exception | None) -> None:
            self.pending -= 1
            if from_outside or not self.dead:
                done(result, error)
                self.on_written()

        self._store.submit(operation, written)
        if fate == "kept":
            self._die()

    def _die(self) -> None:
        self.dead = True
        self._on_crash()


class VirtualService(Service):
    """Looks at the store when something was written, and when a run is due."""

    stand_in: StandIn

    def environment(self, loop: asyncio.AbstractEventLoop) -> Environment:
        made = super().environment(loop)
        made.stand_in = self.stand_in
        return made

    def beat(self) -> None:
        self.look_now()

    def look(self) -> None:
        super().look()
        if self.pulse is not None:
            self.pulse.cancel()
        now = self.clock.now()
        due = self.store.next_due(now)
        self.pulse = self.loop.call_later((due - now) / 1e6, self.nudge) if due else None


class VirtualEngine(Engine):
    """The production engine on virtual time, which may die."""

    service_type = VirtualService
    service: VirtualService

    def __init__(self, store: ProcessStore, time: VirtualTime, seed: str, stand_in: StandIn) -> None:
        self.process_store = store
        super().__init__(store, OPTIONS, time, random.Random(seed))  # type: ignore[arg-type]  # it answers reads through __getattr__
        self.service.stand_in = stand_in
        store.on_written = self.service.nudge

    @property
    def at_work(self) -> bool:
        """Whether a step is in flight."""
        runners = self.worker.runners.values() if self.worker is not None else ()
        return any(not each.idle for runner in runners for each in runner.executions.values())

    async def die(self, store: Store, time: VirtualTime) -> None:
        """As by SIGKILL, but that steps in flight are cancelled, and threads waited for."""
        assert self.worker is not None
        self.process_store.dead = self.worker.draining = True
        tasks = [task for runner in list(self.worker.runners.values()) for task in runner.abandon()]
        if tasks:
            await asyncio.wait(tasks)
        await time.quiet()
        self.service.leave()
        retired: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(_: Any, error: Exception | None) -> None:
            if error is not None:
                retired.set_exception(error)
            else:
                retired.set_result(None)

        store.submit(Retire(self.owner, time.now()), done)
        await retired
