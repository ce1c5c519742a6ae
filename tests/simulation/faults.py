"""What goes wrong, how often, and when: drawn per seed, so that every seed has troubles of its own (swarm testing)."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import TYPE_CHECKING

from tests.simulation.loop import VirtualLoop

if TYPE_CHECKING:
    from tests.simulation.machine_room import MachineRoom
    from tests.simulation.process import Process

KINDS = ("kill", "stop", "stall", "drain", "power", "jump", "disk full", "disk slow")
WEIGHTS = {
    "kill": 6.0,
    "stop": 5.0,
    "stall": 2.0,
    "drain": 2.0,
    "power": 1.0,
    "jump": 1.0,
    "disk full": 2.0,
    "disk slow": 2.0,
}
HEAT = {"commit": 12, "begin effect": 25, "end effect": 25, "claim": 25}
"""How many ordinary callbacks one of these moments is worth, to a fault that waits for its time."""
COMMIT_US = {"begin": (20, 300), "commit": (100, 3_000), "tell": (20, 500)}


class Faults:
    """Draws faults, and keeps count of those that really happened.

    Attributes:
        counts: what happened, by name.
        calm: no more faults: everything must now come to a good end.
    """

    def __init__(self, chance: Random, lease_s: float, counts: Counter[str]) -> None:
        self._chance, self._lease_s, self.counts = chance, lease_s, counts
        self.calm = False
        self.room: MachineRoom
        chosen = [kind for kind in KINDS if chance.random() < 0.55]
        self._kinds, self._weights = chosen, [WEIGHTS[kind] * chance.uniform(0.3, 2.0) for kind in chosen]
        self._mean = chance.choice((60, 250, 800, 2_500))
        self._left = chance.randint(1, 14) if chosen else 0
        self._lost = chance.choice((0.0, 0.0, 0.01, 0.06))
        self._ambiguous = chance.choice((0.0, 0.0, 0.01, 0.06))
        self._unread = chance.choice((0.0, 0.0, 0.0, 0.004))
        self._full_until_us = self._slow_until_us = 0
        self._countdown = self._next()

    def _next(self) -> int:
        return 1 + int(self._chance.expovariate(1 / self._mean))

    # --- processes ------------------------------------------------------------------------------------------------

    def on_step(self, loop: VirtualLoop) -> None:
        """A callback has run; perhaps its process meets its fate now."""
        self._countdown -= 1
        if self._countdown <= 0:
            self._strike(loop.process)

    def warm(self, moment: str) -> None:
        """A moment inside of a callback at which a fault is more interesting than at others."""
        self._countdown -= HEAT[moment]

    def point(self, process: Process, moment: str) -> None:
        """The same, between callbacks."""
        self.warm(moment)
        if self._countdown <= 0:
            self._strike(process)

    def _strike(self, process: Process) -> None:
        self._countdown = self._next()
        if self.calm or self._left <= 0 or not process.alive:
            return
        self._left -= 1
        chance, room = self._chance, self.room
        kind = chance.choices(self._kinds, self._weights)[0]
        if kind == "kill":
            room.kill(process)
        elif kind == "stop":
            room.stop(process, self._pause_us())
        elif kind == "stall":
            room.stall(process.loops[int(chance.random() * len(process.loops))], self._pause_us())
        elif kind == "drain":
            room.drain(process)
        elif kind == "power":
            room.power_loss()
        elif kind == "jump":
            room.jump(round(chance.uniform(-1.5, 2.5) * self._lease_s * 1_000_000))
        elif kind == "disk full":
            self._full_until_us = room.scheduler.now_us + round(chance.uniform(0.05, 5.0) * 1_000_000)
            room.note("disk full")
        else:
            self._slow_until_us = room.scheduler.now_us + self._pause_us()
            room.note("disk slow")

    def _pause_us(self) -> int:
        """Some pauses are short, some outlast the lease."""
        chance = self._chance
        short = chance.random() < 0.4
        return round((chance.uniform(0.02, 1.5) if short else chance.uniform(0.7, 2.5) * self._lease_s) * 1_000_000)

    def restart_after_us(self) -> int:
        """How long a process stays away."""
        return round(self._chance.choice((0.05, 0.5, 2.0, 9.0)) * self._chance.uniform(0.5, 1.5) * 1_000_000)

    def coin(self) -> bool:
        return self._chance.random() < 0.5

    # --- the disk -------------------------------------------------------------------------------------------------

    def delay_us(self, phase: str) -> int:
        """How long a phase of a write takes."""
        low, high = COMMIT_US[phase]
        delay_us = low + int(self._chance.random() * (high - low))
        if phase == "commit" and not self.calm:
            delay_us = max(delay_us, self._slow_until_us - self.room.scheduler.now_us)
        return delay_us

    def fate_of_write(self, process: Process) -> str:
        """``done``, ``lost`` (an error, and not done), or ``ambiguous`` (an error, and done)."""
        if self.calm:
            return "done"
        if self.room.scheduler.now_us < self._full_until_us:
            self.counts["write failed (disk full)"] += 1
            return "lost"
        draw = self._chance.random()
        if draw < self._lost:
            self.counts["write failed"] += 1
            return "lost"
        if draw < self._lost + self._ambiguous:
            self.counts["write ambiguous"] += 1
            return "ambiguous"
        return "done"

    def read_fails(self, process: Process, name: str) -> bool:
        if self.calm or not self._unread or self._chance.random() >= self._unread:
            return False
        self.counts["read failed"] += 1
        self.room.scheduler.trace(process.name, "cannot read", name)
        return True
