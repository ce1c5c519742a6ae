"""One simulation: a disk, processes that share it, people who use them, and what goes wrong; all from one seed."""

from __future__ import annotations

import os
import tempfile
import traceback
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any, Literal

from cadenza import Engine, Live
from cadenza.engine.lease import FileLock
from cadenza.engine.options import EngineOptions
from tests.simulation.auditor import Auditor
from tests.simulation.disk import Disk, MemoryDisk, SQLiteDisk
from tests.simulation.faults import Faults
from tests.simulation.loop import VirtualLoop
from tests.simulation.people import People
from tests.simulation.process import Place, Process
from tests.simulation.scheduler import Scheduler
from tests.simulation.world import World

SECOND_US = 1_000_000
STUCK_US = 900 * SECOND_US
"""Virtual time after the last fault by which everything must have come to an end."""
LAST_WORDS_US = 30 * SECOND_US
"""Virtual time in which those who wait for a run's end must be told of it."""
StoreKind = Literal["memory", "sqlite"]


class Violation(Exception):
    """Something happened that must not."""


class MachineRoom:
    """Everything of one seed."""

    def __init__(self, seed: int, store: StoreKind, folder: Path, *, keep_trace: bool = False) -> None:
        self.seed, self._folder = seed, folder
        chance = Random(f"{seed}:room")
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        self.causes: list[str] = []
        burst_max = chance.choice((1, 3, 20))
        self.scheduler = Scheduler(Random(f"{seed}:schedule"), burst_max, keep_trace)
        self._lease_s = chance.choice((2.0, 5.0, 10.0))
        self.faults = Faults(Random(f"{seed}:faults"), self._lease_s, self.counts)
        self.faults.room = self
        self.scheduler.on_step = self.faults.on_step
        self.auditor = Auditor(self.violate, self.scheduler.trace, self.counts)
        self.world = World(Random(f"{seed}:world"), self.auditor, self.violate, self.scheduler.trace, self.counts)
        self.disk: Disk = MemoryDisk() if store == "memory" else SQLiteDisk(folder / "simulated.db")
        self._locks = folder / "locks" if chance.random() < 0.5 else None
        if self._locks is not None:
            self._locks.mkdir()
        self.people = People(self, Random(f"{seed}:people"))
        self.processes: list[Process] = []
        self._graves: list[Process] = []
        self._places = self._draw_places(chance)
        self._act_us = round(chance.uniform(5, 40) * SECOND_US)
        self._watched = chance.random() < 0.3
        self._deploy_us = round(self._act_us * chance.random())
        self._orders = chance.randint(2, 6)

    def _draw_places(self, chance: Random) -> list[Place]:
        places = [
            Place(f"worker{number}-", self._draw_options(chance, adopt_all=True))
            for number in range(chance.randint(1, 3))
        ]
        if chance.random() < 0.5:
            places.append(Place("script-", self._draw_options(chance)))
        if chance.random() < 0.5:
            places.append(Place("client-", self._draw_options(chance, worker=False)))
        return places

    def _draw_options(self, chance: Random, **more: Any) -> EngineOptions:
        return EngineOptions(
            lease_s=self._lease_s,
            slots=chance.choice((2, 5, 100, 100)),
            linger_s=chance.choice((0.0, 0.2, 1.0, 5.0)),
            poll_busy_s=chance.choice((0.1, 0.3, 0.8)),
            poll_idle_s=chance.choice((0.5, 1.0, 2.0)),
            stall_s=1e9,
            verify_replay=chance.random() < 0.1,
            **more,
        )

    # --- the play -------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Play it all: with faults for a while, then in peace until everything has ended."""
        for place in self._places:
            self._start(place)
        self.people.order(self._orders, round(self._act_us * 0.6))
        scheduler = self.scheduler
        scheduler.at(self._deploy_us, self.people.deploy)
        scheduler.run(self._act_us, lambda: bool(self.problems))
        self.faults.calm = True
        scheduler.trace("calm")
        for process in self.processes:
            process.go_on()
        self.counts["callbacks"] += scheduler.callbacks
        for _ in range(3):  # somebody may start one more when all the others have ended
            scheduler.run(scheduler.now_us + STUCK_US, self._over)
            if self._over():
                scheduler.run(scheduler.now_us + LAST_WORDS_US, lambda: bool(self.problems))
            if self.problems or self._over() or not self.people.satisfied:
                break
        for process in [] if self.problems else self.processes:
            for error in process.loops[0].unretrieved():
                self.violate(f"{process.name}: a task failed: {type(error).__name__}: {error}", error)

    def _over(self) -> bool:
        return bool(self.problems) or (not self.auditor.open and self.people.satisfied)

    def violate(self, problem: str, cause: BaseException | None = None) -> None:
        """Something happened that must not: the simulation ends here."""
        self.scheduler.trace("VIOLATION", problem)
        self.problems.append(problem)
        if cause is not None:
            self.causes.append("".join(traceback.format_exception(cause)))

    def watch(self, engine: Engine) -> None:
        """In some rooms the engines are watched; a warning is one of code that is not deterministic."""
        if self._watched:
            engine.observe(self._heard)

    def _heard(self, live: Live) -> None:
        self.counts["notice to observers"] += 1
        if live.state == "warning":
            self.violate(f"{live.run_id}: {live.detail}")

    # --- processes ------------------------------------------------------------------------------------------------

    def _start(self, place: Place) -> None:
        process = Process(self, place, self.disk, self._locks)
        self.processes.append(process)
        self.scheduler.loops += process.loops
        self.scheduler.trace(process.name, "starts")

    def gone(self, process: Process, *, done: bool = False) -> None:
        """A process has ended, one way or another; another takes its place after a while."""
        process.die(done=done)
        self.processes.remove(process)
        self._graves.append(process)
        self.scheduler.drop(process.loops)
        self.scheduler.trace(process.name, "is gone")
        self.scheduler.later(self.faults.restart_after_us(), lambda: self._start(process.place))

    def kill(self, process: Process) -> None:
        self.note("kill", process.name)
        self.gone(process, done=self.faults.coin())

    def stop(self, process: Process, pause_us: int) -> None:
        self.note("stop" if pause_us < self._lease_s * SECOND_US else "stop past the lease", process.name, pause_us)
        process.stop()
        self.scheduler.later(pause_us, process.go_on)

    def stall(self, loop: VirtualLoop, pause_us: int) -> None:
        process = loop.process
        self.note(
            "stall of the loop" if loop is process.loops[0] else "stall of the lease's thread", process.name, pause_us
        )
        loop.paused = True
        self.scheduler.later(pause_us, lambda: setattr(loop, "paused", False))

    def drain(self, process: Process) -> None:
        if process.serving:
            self.note("drain", process.name)
            process.drain()

    def power_loss(self) -> None:
        self.note("power loss")
        for process in list(self.processes):
            self.gone(process, done=self.faults.coin())

    def jump(self, by_us: int) -> None:
        self.note("wall clock jumps " + ("back" if by_us < 0 else "forward"), by_us)
        self.scheduler.wall_offset_us += by_us

    def note(self, fault: str, *details: object) -> None:
        self.counts[fault] += 1
        self.scheduler.trace("FAULT", fault, *details)

    # --- files ----------------------------------------------------------------------------------------------------

    def unlock(self, lock: FileLock) -> None:
        """As the operating system does it for a process that is gone: the file stays."""
        file, lock._file = lock._file, -1
        if file >= 0:
            os.close(file)

    def close(self) -> None:
        for process in self.processes:
            process.die(done=False)
        self.disk.close()


def fast_folder() -> str | None:
    """Where temporary files cost no disk."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir()
