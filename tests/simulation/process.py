"""One simulated process: an engine, the loop of its main thread, the loop of its lease's thread, and its writer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, cast

from cadenza.engine.engine import Engine
from cadenza.engine.lease import LeaseKeeper
from cadenza.engine.options import EngineOptions
from cadenza.engine.service import Service
from cadenza.errors import StoreError
from tests.simulation import stage
from tests.simulation.disk import Disk, ProcessStore
from tests.simulation.loop import VirtualLoop
from tests.simulation.scheduler import VirtualClock

if TYPE_CHECKING:
    from tests.simulation.machine_room import MachineRoom


class Place:
    """Where one process runs, dies and is started again. ``count`` numbers its processes."""

    def __init__(self, name: str, options: EngineOptions) -> None:
        self.name, self.options, self.count = name, options, 0


class LeaseThread:
    """Stands for the thread of a LeaseKeeper: beats on a loop of its own."""

    def __init__(self, keeper: LeaseKeeper, loop: VirtualLoop) -> None:
        self._keeper, self._loop, self._joined = keeper, loop, False

    def start(self) -> None:
        self._beat()

    def join(self) -> None:
        self._joined = True

    def _beat(self) -> None:
        if not self._joined:
            self._loop.call_later(self._keeper.beat(), self._beat)


class VirtualKeeper(LeaseKeeper):
    """The production lease, without a real thread."""

    def __init__(self, store: ProcessStore, *arguments: Any) -> None:
        super().__init__(cast("Any", store), *arguments)  # it answers reads through __getattr__
        self._thread = LeaseThread(self, store.process.loops[1])  # type: ignore[assignment]  # start and join are enough


class VirtualService(Service):
    """The production service with that lease."""

    lease_keeper = VirtualKeeper  # type: ignore[assignment]  # its store is a ProcessStore
    companions = ()  # they use real threads


class VirtualEngine(Engine):
    """The production engine with that service."""

    service_type = VirtualService


class Process:
    """Runs until it is killed, drained, or its engine cannot be opened.

    Attributes:
        engine: open once ``serving``.
    """

    def __init__(self, room: MachineRoom, place: Place, disk: Disk, locks: Path | None) -> None:
        place.count += 1
        self.room, self.place, self.name = room, place, f"{place.name}{place.count}"
        self.scheduler, self.faults, self.auditor, self.world = room.scheduler, room.faults, room.auditor, room.world
        self.alive, self.running, self.serving = True, True, False
        self._leaving = False
        self._deferred: list[Callable[[], object]] = []
        self.loops = [VirtualLoop(self), VirtualLoop(self)]
        self.store = ProcessStore(self, disk, locks)
        chance = Random(f"{room.seed}:{self.name}")
        self.engine = VirtualEngine(cast("Any", self.store), place.options, VirtualClock(self.scheduler), chance)
        self.engine.service.owner = self.name  # one that does not depend on the real process
        self._stop = asyncio.Event()
        self.main = self.spawn(self._serve())

    async def _serve(self) -> None:
        try:
            async with self.engine:
                self.serving = True
                self.room.watch(self.engine)
                await self._stop.wait()
                self.serving = False
        except StoreError as error:
            self.scheduler.trace(self.name, "cannot go on:", type(error).__name__)
            self.faults.counts["process gave up"] += 1
        self.serving = False
        self.loops[0].call_soon(self._exit)

    def _exit(self) -> None:
        """As at the end of asyncio.run: what is still going on is cancelled, then the process ends."""
        if not self._leaving:
            self._leaving = True
            for task in self.loops[0].tasks:
                task.cancel()
        elif all(task.done() for task in self.loops[0].tasks):
            self.room.gone(self)
            return
        self.later(1_000, lambda: self.loops[0].call_soon(self._exit))

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run ``work`` in this process."""
        return self.loops[0].create_task(work)

    def drain(self) -> None:
        self._stop.set()

    # --- what happens to it ---------------------------------------------------------------------------------------

    def later(self, delay_us: int, action: Callable[[], object]) -> None:
        """Do something in this process after a while; if it is stopped then, when it goes on; if it is dead, never."""
        self.scheduler.later(delay_us, lambda: self._happen(action))

    def _happen(self, action: Callable[[], object]) -> None:
        if not self.alive:
            return
        if not self.running:
            self._deferred.append(action)
            return
        with stage.running(self):
            action()

    def stop(self) -> None:
        """As by SIGSTOP."""
        self.running = False

    def go_on(self) -> None:
        """As by SIGCONT."""
        if self.alive and not self.running:
            self.running = True
            deferred, self._deferred = self._deferred, []
            for action in deferred:
                self._happen(action)

    def die(self, *, done: bool) -> None:
        """As by SIGKILL: none of its code runs again. ``done``: whether its transaction under way was committed."""
        self.alive = self.running = self.serving = False
        self.store.die(done=done)
        lock = self.engine.service.lock
        if lock is not None:
            self.room.unlock(lock)

    def thread_delays(self) -> tuple[int, int]:
        """Microseconds until a sync step's thread begins, and until its result is seen."""
        return self.world.thread_delays()

    def went_wrong(self, message: str, error: BaseException | None) -> None:
        """An exception that nobody handles."""
        if self.alive:
            self.room.violate(f"{self.name}: {message}: {type(error).__name__}: {error}", error)
