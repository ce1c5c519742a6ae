"""How many calls an instance has at once: a bulkhead, or a limit that follows its latency. Nobody queues without end.

The limit that adapts is a gradient one: with the latency at its best the limit grows by the square root of itself, the
head room of a queue; with a latency of ``tolerance`` times its best or more it shrinks in proportion, at most by half.
Source: Netflix concurrency-limits (Gradient, Gradient2), after TCP Vegas (Brakmo, Peterson 1995). Unlike Gradient2 the
best latency is a slowly forgotten minimum, no long mean: an instance that gets slower and slower pulls a mean with it.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from dataclasses import dataclass

from cadenza.errors import Overloaded


class Gradient:
    """A limit on calls at once, made of latencies. Pure.

    Args:
        start, least, most: the limit at the beginning, and its bounds.
        tolerance: by which factor the latency may be over its best before the limit shrinks.
        smoothing: share of a new limit that counts.
        forgetting: by which share the best latency rises with each call.
    """

    def __init__(
        self,
        start: float = 20.0,
        least: float = 1.0,
        most: float = 1_000.0,
        tolerance: float = 2.0,
        smoothing: float = 0.2,
        forgetting: float = 0.001,
    ) -> None:
        self._limit, self._least, self._most = min(max(start, least), most), least, most
        self._tolerance, self._smoothing, self._forgetting = tolerance, smoothing, forgetting
        self.best_s = math.inf

    @property
    def limit(self) -> int:
        return int(self._limit)

    def ended(self, latency_s: float, in_flight: int, *, ok: bool) -> None:
        """A call has ended, while ``in_flight`` were under way with it."""
        if not ok:
            self._limit = max(self._least, self._limit * 0.9)
            return
        latency_s = max(latency_s, 1e-6)
        self.best_s = min(latency_s, self.best_s * (1.0 + self._forgetting))
        gradient = min(1.0, max(0.5, self._tolerance * self.best_s / latency_s))
        if gradient == 1.0 and in_flight < self._limit / 2:
            return  # it was not the limit that held it
        wanted = self._limit * gradient + (math.sqrt(self._limit) if gradient == 1.0 else 0.0)
        limit = (1.0 - self._smoothing) * self._limit + self._smoothing * wanted
        self._limit = min(max(limit, self._least), self._most)


@dataclass(slots=True)
class Waiting:
    """A call that waits for its turn."""

    turn: asyncio.Future[None]
    since_s: float


class Slots:
    """Calls at once of one instance, first come, first served.

    Args:
        instance: its key, for errors.
        limit: calls at once; or a Gradient, which is asked each time.
        queue_max: how many may wait.
        wait_s: how long one may wait.
    """

    def __init__(self, instance: str, limit: int | Gradient, queue_max: int, wait_s: float) -> None:
        self._instance, self._limit, self._queue_max, self._wait_s = instance, limit, queue_max, wait_s
        self._queue: deque[Waiting] = deque()
        self.in_flight = 0
        self.shed = 0

    @property
    def limit(self) -> int:
        return self._limit if isinstance(self._limit, int) else self._limit.limit

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @property
    def full(self) -> bool:
        """Whether a call that came now would be shed."""
        return self.in_flight >= self.limit and len(self._queue) >= self._queue_max

    async def enter(self) -> None:
        """Wait for a slot; ``leave`` gives it back. Raises Overloaded."""
        if self.in_flight < self.limit and not self._queue:
            self.in_flight += 1
            return
        if len(self._queue) >= self._queue_max:
            self.shed += 1
            waits = f"the queue of {self._queue_max} is full" if self._queue_max else "none may wait"
            raise Overloaded(self._instance, f"{self.in_flight} of {self.limit} calls are under way, and {waits}")
        loop = asyncio.get_running_loop()
        waiting = Waiting(loop.create_future(), loop.time())
        self._queue.append(waiting)
        try:
            async with asyncio.timeout(self._wait_s):
                await waiting.turn
        except BaseException as error:
            if waiting.turn.done() and not waiting.turn.cancelled():
                self.leave()  # it had its turn in the same moment
            elif waiting in self._queue:
                self._queue.remove(waiting)
            if isinstance(error, TimeoutError):
                self.shed += 1
                reason = f"{self.in_flight} of {self.limit} calls are under way, and no turn came in"
                raise Overloaded(self._instance, f"{reason} {self._wait_s:g} s") from None
            raise

    def leave(self, latency_s: float | None = None, *, ok: bool = True) -> None:
        """Give the slot back; ``latency_s`` of a call that says something of the instance."""
        if latency_s is not None and isinstance(self._limit, Gradient):
            self._limit.ended(latency_s, self.in_flight, ok=ok)
        self.in_flight -= 1
        while self._queue and self.in_flight < self.limit:
            waiting = self._queue.popleft()
            if not waiting.turn.done():
                self.in_flight += 1
                waiting.turn.set_result(None)
