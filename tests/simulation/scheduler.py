"""Virtual time, and whose turn it is: one seeded scheduler runs all threads of all simulated processes.

Invariants:
    - Nothing happens but through ``at``, and through a step of a loop; so a seed fixes every event and its time.
    - Time advances by a little with every callback, and to the next event when nothing is ready.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterable
from random import Random

from tests.simulation.loop import VirtualLoop

CALLBACK_US = (5, 400)
EPOCH_US = 1_800_000_000_000_000
"""Where virtual time begins: microseconds since 1970."""


class Trace:
    """What happened, line by line. Two runs of one seed have the same digest."""

    def __init__(self, scheduler: Scheduler, keep: bool) -> None:
        self._scheduler, self._keep = scheduler, keep
        self._hash = hashlib.blake2b(digest_size=16)
        self.lines: list[str] = []
        self.count = 0

    def __call__(self, *words: object) -> None:
        line = f"{self._scheduler.now_us / 1e6:12.6f} {' '.join(map(str, words))}"
        self._hash.update(line.encode() + b"\n")
        self.count += 1
        if self._keep:
            self.lines.append(line)

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()


class Scheduler:
    """Picks the next callback by chance.

    Args:
        chance: draws whose turn it is, and how long a callback takes.
        burst_max: how many callbacks one thread runs before it is another's turn.
        keep_trace: keep the lines of the trace, not only their digest.
    """

    def __init__(self, chance: Random, burst_max: int, keep_trace: bool) -> None:
        self._chance, self._burst_max = chance, burst_max
        self.now_us = 0
        self.callbacks = 0
        self.wall_offset_us = EPOCH_US
        self.loops: list[VirtualLoop] = []
        self.on_step: Callable[[VirtualLoop], None] = lambda loop: None
        self.trace = Trace(self, keep_trace)
        self._events: list[tuple[int, int, Callable[[], object]]] = []
        self._order = 0

    @property
    def now_s(self) -> float:
        return self.now_us / 1_000_000

    def at(self, when_us: int, action: Callable[[], object]) -> None:
        """Call ``action`` at that time, or now if it has passed."""
        self._order += 1
        heapq.heappush(self._events, (when_us, self._order, action))

    def later(self, delay_us: int, action: Callable[[], object]) -> None:
        self.at(self.now_us + delay_us, action)

    def run(self, until_us: int, done: Callable[[], bool]) -> None:
        """Go on until that time, or until ``done()``."""
        events, chance = self._events, self._chance
        while self.now_us < until_us and not done():
            while events and events[0][0] <= self.now_us:
                heapq.heappop(events)[2]()
            runnable = [loop for loop in self.loops if loop.ready and loop.process.running and not loop.paused]
            if runnable:
                loop = runnable[int(chance.random() * len(runnable))] if len(runnable) > 1 else runnable[0]
                self._burst(loop)
            elif events:
                self.now_us = max(self.now_us, min(events[0][0], until_us))
            else:
                self.now_us = until_us

    def _burst(self, loop: VirtualLoop) -> None:
        """A few callbacks of one thread, until an event is due or its process no longer runs."""
        chance, events = self._chance, self._events
        low, high = CALLBACK_US
        for _ in range(1 + int(chance.random() * self._burst_max)):
            self.now_us += low + int(chance.random() * (high - low))
            self.callbacks += 1
            loop.step()
            self.on_step(loop)
            if not loop.ready or not loop.process.running or loop.paused or (events and events[0][0] <= self.now_us):
                return

    def drop(self, loops: Iterable[VirtualLoop]) -> None:
        gone = set(map(id, loops))
        self.loops = [loop for loop in self.loops if id(loop) not in gone]


class VirtualClock:
    """The engine's clock: wall time may jump, elapsed time never does."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def now(self) -> int:
        return self._scheduler.wall_offset_us + self._scheduler.now_us

    def elapsed_s(self) -> float:
        return self._scheduler.now_us / 1_000_000
