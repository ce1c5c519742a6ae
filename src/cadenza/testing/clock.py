"""Virtual time on asyncio's own loop: when nothing else can happen, the clock jumps to the next timer.

Invariants:
    - Time moves only when the loop has nothing left to do; then it moves to the next timer, and never back.
    - While a thread, a commit, or a step with an open socket is at work, time is real.
"""

from __future__ import annotations

import asyncio
import math
import selectors
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self, cast

from cadenza.errors import UsageError

SLICE_S = 0.05
"""What is at work is waited for in slices; time moves by those in which nothing came."""
GRACE_S = 0.05
"""With sockets open and no step at work, or with a library's own threads beside a step, so many real seconds of silence
count as nothing."""


class VirtualTime:
    """Has the time of the running loop, for as long as ``with`` lasts.

    Args:
        start: what the clock shows first.
        at_work: whether a step is in flight, so that an open socket is something to wait for.
        held: whether something else is under way that ends by itself, and soon.
    """

    def __init__(self, start: datetime, at_work: Callable[[], bool], held: Callable[[], bool]) -> None:
        self._start_us = round(start.timestamp() * 1_000_000)
        self._at_work, self._held = at_work, held
        self._began_s = self._now_s = 0.0
        self._threads = 0
        self._quiet: list[asyncio.Future[bool]] = []
        self._passing: list[asyncio.Future[bool]] = []
        self._loop: Any = None
        self._selector: Any = None
        self._sockets = 0

    def __enter__(self) -> Self:
        loop = cast("Any", asyncio.get_running_loop())
        selector = getattr(loop, "_selector", None)
        if not isinstance(selector, selectors.BaseSelector):
            raise UsageError(
                f"cadenza.testing needs asyncio's own event loop, not {type(loop).__name__}: run the test with asyncio"
            )
        self._loop, self._selector = loop, selector
        self._sockets = len(selector.get_map() or ())
        self._began_s = self._now_s = loop.time()
        loop._selector = _JumpingSelector(selector, self.select)
        loop.time, loop.run_in_executor = self.loop_time, self._run_in_executor
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop._selector = self._selector
        del self._loop.time, self._loop.run_in_executor

    # --- the loop's clock and the engine's ------------------------------------------------------------------------

    def loop_time(self) -> float:
        return self._now_s

    def now(self) -> int:
        """Microseconds since 1970 (the engine's Clock)."""
        return self._start_us + round((self._now_s - self._began_s) * 1_000_000)

    def elapsed_s(self) -> float:
        """Real seconds go on too: workflow code that does not yield is found by them."""
        return self._now_s - self._began_s + time.monotonic()

    @property
    def date(self) -> datetime:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=self.now())

    # --- waiting --------------------------------------------------------------------------------------------------

    async def quiet(self) -> None:
        """Until nothing more can happen without the passing of time."""
        future: asyncio.Future[bool] = self._loop.create_future()
        self._quiet.append(future)
        await future

    async def pass_on(self) -> bool:
        """Until time has moved to the next timer, and it is quiet again; False if there is no timer."""
        future: asyncio.Future[bool] = self._loop.create_future()
        self._passing.append(future)
        return await future

    # --- in place of the loop's waiting ---------------------------------------------------------------------------

    def select(self, timeout: float | None = None) -> list[Any]:
        """The loop has nothing ready: events that are there, or those that come, or else the next timer's time."""
        events = self._selector.select(0)
        if events or (timeout is not None and timeout <= 0):
            return events
        has_sockets = len(self._selector.get_map() or ()) > self._sockets
        if self._threads or self._held() or (has_sockets and self._at_work()):
            slice_s = SLICE_S if timeout is None else min(timeout, SLICE_S)
            events = self._selector.select(slice_s)
            if not events:
                self._jump(slice_s)
            return events
        if (has_sockets or self._others_at_work()) and (events := self._selector.select(GRACE_S)):
            return events
        if _resolve(self._quiet, True):
            return []
        if timeout is None:
            return [] if _resolve(self._passing, False) else self._selector.select(None)
        self._jump(timeout)
        return []

    def _others_at_work(self) -> bool:
        """Whether a library may have a thread of its own at work for a step: that one has any is all one can see."""
        return self._at_work() and any(type(each).__name__ == "WorkerThread" for each in threading.enumerate())

    def _jump(self, timeout: float) -> None:
        self._now_s = math.nextafter(self._now_s + timeout, math.inf)  # past the timer: at it, asyncio does not fire it
        self._quiet += self._passing
        self._passing.clear()

    def _run_in_executor(self, executor: Any, fn: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        original = cast("Callable[..., asyncio.Future[Any]]", type(self._loop).run_in_executor)  # pyright: ignore[reportUnknownMemberType] - any loop
        future = original(self._loop, executor, fn, *args)
        self._threads += 1
        future.add_done_callback(self._thread_ended)
        return future

    def _thread_ended(self, _: asyncio.Future[Any]) -> None:
        self._threads -= 1


class _JumpingSelector:
    """The loop's selector, but for waiting."""

    def __init__(self, selector: selectors.BaseSelector, select: Callable[[float | None], list[Any]]) -> None:
        self._selector, self.select = selector, select

    def __getattr__(self, name: str) -> Any:
        return getattr(self._selector, name)


def _resolve(waiting: list[asyncio.Future[bool]], value: bool) -> bool:
    """Settle all of them; returns whether there was one."""
    taken = [future for future in waiting if not future.done()]
    waiting.clear()
    for future in taken:
        future.set_result(value)
    return bool(taken)
