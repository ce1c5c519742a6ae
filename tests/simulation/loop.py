"""An event loop on virtual time: one for each thread of each simulated process; the scheduler runs their callbacks.

A loop that is never stepped again is a process that was killed: nothing of it happens any more, not even clean-up.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import Context as Variables
from typing import TYPE_CHECKING, Any

from tests.simulation import stage

if TYPE_CHECKING:
    from tests.simulation.process import Process

MICROSECONDS = 1_000_000


class VirtualLoop(asyncio.AbstractEventLoop):
    """What asyncio and the engine need of a loop; timers go to the scheduler, which owns time."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.paused = False
        self.ready: deque[asyncio.Handle] = deque()
        self.tasks: list[asyncio.Task[Any]] = []

    # --- what asyncio needs ---------------------------------------------------------------------------------------

    def time(self) -> float:
        return self.process.scheduler.now_us / MICROSECONDS

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Variables | None = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self.ready.append(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[..., Any], *args: Any, context: Variables | None = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Variables | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Variables | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self.process.scheduler.at(round(when * MICROSECONDS), lambda: self._due(handle))
        return handle

    def _due(self, handle: asyncio.TimerHandle) -> None:
        if not handle.cancelled():
            self.ready.append(handle)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Any, *, name: str | None = None, context: Variables | None = None, **_: Any
    ) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name or "task", context=context)
        self.tasks.append(task)
        return task

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """A thread of the process: ``func`` runs after a while, and its result comes back after another."""
        future = self.create_future()
        before_us, after_us = self.process.thread_delays()

        def work() -> None:
            try:
                result, error = func(*args), None
            except BaseException as raised:
                result, error = None, raised
            self.process.later(after_us, lambda: self.call_soon(_settle, future, result, error))

        self.process.later(before_us, work)
        return future

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """The scheduler finds out when the timer is due."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.process.went_wrong(context.get("message", ""), context.get("exception"))

    # --- driving it -----------------------------------------------------------------------------------------------

    def step(self) -> None:
        """Run one callback."""
        handle = self.ready.popleft()
        if handle.cancelled():
            return
        asyncio._set_running_loop(self)
        try:
            with stage.running(self.process):
                handle._run()  # type: ignore[attr-defined]  # what every loop calls
        finally:
            asyncio._set_running_loop(None)

    def unretrieved(self) -> list[BaseException]:
        """Exceptions of tasks that nobody looked at: a real loop would log them when the task is collected."""
        failed = [task for task in self.tasks if task.done() and getattr(task, "_log_traceback", False)]
        return [error for task in failed if (error := task.exception()) is not None]


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
