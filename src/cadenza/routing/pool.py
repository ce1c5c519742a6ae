"""Pools: between so many and so many instances of something, as many as the age of the queue asks for.

An instance does one thing at a time. Whoever waits for longer than ``grow_after_s`` brings another instance, up to
``most``; one that has had nothing to do for ``idle_s`` goes, down to ``least``. What an instance is, is up to whoever
makes it: a slot in this process, or a process of its own (``processes``).
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from cadenza.agents.child_process import ChildProcess, Command
from cadenza.errors import DefinitionError, Overloaded

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """Bounds of a pool.

    Attributes:
        least, most: instances.
        grow_after_s: seconds that the oldest in the queue has waited before another instance is made.
        idle_s: seconds without work before an instance goes.
        queue_max: how many may wait; one more raises Overloaded.
    """

    least: int = 0
    most: int = 4
    grow_after_s: float = 0.1
    idle_s: float = 60.0
    queue_max: int = 1_000

    def __post_init__(self) -> None:
        if not 0 <= self.least <= self.most or self.most < 1:
            raise DefinitionError(f"pool: 0 <= least <= most and most >= 1, not {self.least} and {self.most}")
        if self.grow_after_s < 0 or self.idle_s <= 0 or self.queue_max < 0:
            raise DefinitionError("pool: grow_after_s and queue_max are at least 0, idle_s is over 0")


class Pool(Generic[T]):
    """Instances of ``T`` on one event loop. Close it there.

    Args:
        name: for errors.
        make: makes an instance; ``end`` ends it.

    Attributes:
        size: instances that there are, or are being made.
    """

    def __init__(
        self, name: str, make: Callable[[], Awaitable[T]], end: Callable[[T], Awaitable[object]], options: PoolOptions
    ) -> None:
        self._name, self._make, self._end, self.options = name, make, end, options
        self._idle: deque[tuple[T, asyncio.TimerHandle]] = deque()
        self._queue: deque[tuple[asyncio.Future[T], float]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._growth: asyncio.TimerHandle | None = None
        self._closed = False
        self._grown_s = -1e9
        self.size = 0
        loop = asyncio.get_running_loop()
        self._keeper = loop.create_task(self._keep(), context=contextvars.Context())  # not of the step that is first

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @asynccontextmanager
    async def instance(self) -> AsyncGenerator[T]:
        """One instance for as long as the block lasts; it is ended if the block raises.

        Raises:
            Overloaded: the queue is full. What ``make`` raises.
        """
        taken = await self._take()
        try:
            yield taken
        except BaseException:
            self.size -= 1
            self._do(self._end(taken))
            self._grow_later()
            raise
        self._give(taken)

    async def open(self) -> None:
        """Make the least number of instances now. Raises what ``make`` raises."""
        while self.size < self.options.least:
            self.size += 1
            self._give(await self._made())

    async def close(self) -> None:
        """End the idle ones; those at work end when their work does."""
        self._closed = True
        if self._growth is not None:
            self._growth.cancel()
        for waiting, _ in self._queue:
            waiting.cancel()
        self._queue.clear()
        while self._idle:
            instance, timer = self._idle.pop()
            timer.cancel()
            self.size -= 1
            self._do(self._end(instance))
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _take(self) -> T:
        if self._idle:
            instance, timer = self._idle.pop()  # the one that was used last: the others may go
            timer.cancel()
            return instance
        if not self.size:
            self.size += 1
            return await self._made()
        if len(self._queue) >= self.options.queue_max:
            raise Overloaded(
                self._name, f"{self.size} of {self.options.most} instances are at work, and the queue is full"
            )
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[T] = loop.create_future()
        self._queue.append((waiting, loop.time()))
        self._grow_later()
        try:
            return await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled() and waiting.exception() is None:
                self._give(waiting.result())
            raise

    async def _made(self) -> T:
        try:
            return await self._make()
        except BaseException:
            self.size -= 1
            raise

    def _give(self, instance: T) -> None:
        while self._queue:
            waiting, _ = self._queue.popleft()
            if not waiting.done():
                waiting.set_result(instance)
                return
        if self._closed:
            self.size -= 1
            self._do(self._end(instance))
            return
        timer = asyncio.get_running_loop().call_later(self.options.idle_s, self._expire, instance)
        self._idle.append((instance, timer))

    def _expire(self, instance: T) -> None:
        if self.size <= self.options.least:
            return
        self._idle = deque(each for each in self._idle if each[0] is not instance)
        self.size -= 1
        self._do(self._end(instance))

    def _grow_later(self) -> None:
        """Look again when the oldest in the queue has waited for long enough."""
        while self._queue and self._queue[0][0].done():
            self._queue.popleft()
        if self._growth is not None or not self._queue or self.size >= self.options.most or self._closed:
            return
        self._growth = asyncio.get_running_loop().call_at(self._due_s(), self._grow)

    def _due_s(self) -> float:
        """When another instance is made, if the oldest in the queue still waits then."""
        if not self.size:
            return 0.0
        return max(self._queue[0][1], self._grown_s) + self.options.grow_after_s

    def _grow(self) -> None:
        self._growth = None
        while self._queue and self._queue[0][0].done():
            self._queue.popleft()
        now_s = asyncio.get_running_loop().time()
        if self._queue and self.size < self.options.most and not self._closed and now_s >= self._due_s():
            self._grown_s = now_s
            self.size += 1
            self._do(self._add())
        else:
            self._grow_later()

    async def _keep(self) -> None:
        """``asyncio.run`` cancels what is left before it closes the loop."""
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await self.close()

    async def _add(self) -> None:
        try:
            self._give(await self._made())
        except Exception as error:
            if self._queue and not self.size:  # nobody else will come
                waiting, _ = self._queue.popleft()
                if not waiting.done():
                    waiting.set_exception(error)
        self._grow_later()

    def _do(self, work: Awaitable[object]) -> None:
        async def done() -> None:
            with contextlib.suppress(Exception):
                await work

        task = asyncio.ensure_future(done())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def processes(name: str, command: Command, options: PoolOptions) -> Pool[ChildProcess]:
    """A pool of processes that answer in lines of JSON; see child_process.py."""
    return Pool(name, lambda: ChildProcess.start(command), lambda child: child.stop(), options)
