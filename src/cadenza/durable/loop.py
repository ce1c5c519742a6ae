"""The deterministic event loop on which workflow code runs.

It has a queue of callbacks and nothing else: no selector, no clock, no threads. Its time is the time of the last
delivered event; its timers are the machine's, and so are durable. Tasks and futures hash by the order of their
creation, so that library code that iterates over sets of them (the abort of a TaskGroup, ``asyncio.wait``) does the
same in every process. Each task opens a branch of the path (path.py).

``run_ready`` makes this the running loop of the thread for as long as callbacks are ready, also inside of a real
loop's callback or task.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio.tasks import _enter_task, _leave_task  # pyright: ignore[reportPrivateUsage] - documented in "Extending asyncio"
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context as Variables
from contextvars import copy_context
from typing import Any, Protocol, cast

from cadenza.durable.guard import IN_A_STEP, DeterministicLoop, here, is_library, line_behind, line_of_task
from cadenza.durable.path import current_branch
from cadenza.errors import Evicted, SideEffect, Stalled, WorkflowBug

CALLBACKS_MAX = 1_000_000
EVICTION_ROUNDS_MAX = 200
MICROSECONDS = 1_000_000


class Timers(Protocol):
    """Where the loop's timers go: the machine."""

    def start_timer(self, fire_at: int, fire: Callable[[], None]) -> str: ...
    def cancel_timer(self, path: str) -> None: ...


class DurableTask(asyncio.Task[Any]):
    """A task with a reproducible hash. ``made_at`` is the line that made it of a library's coroutine."""

    made_at = ""

    def __init__(self, coro: Any, *, order: int, **keywords: Any) -> None:
        self._order = order
        super().__init__(coro, **keywords)

    def __hash__(self) -> int:
        return self._order


class DurableFuture(asyncio.Future[Any]):
    """A future with a reproducible hash."""

    def __init__(self, *, loop: DurableLoop) -> None:
        self._order = loop.next_order()
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._order


class TimerHandle(asyncio.TimerHandle):
    """A durable timer; ``path`` is its place in the journal."""

    path = ""


class DurableLoop(DeterministicLoop):
    """See the module's docstring. Everything that is not named here is refused with the line that asked for it."""

    def __init__(self, timers: Timers, seed: int) -> None:
        self.timers = timers
        self.now_us = 0
        self.evicting = False
        self.busy = False
        self.interrupted = ""
        self.callbacks_max = CALLBACKS_MAX
        self._ready: deque[asyncio.Handle] = deque()
        self._tasks: dict[int, DurableTask] = {}
        self._futures: list[asyncio.Future[Any]] = []
        self.bugs: list[tuple[DurableTask | None, WorkflowBug]] = []
        self._sweep_at = 256
        self._order = seed

    # --- what asyncio needs ---------------------------------------------------------------------------------------

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Variables | None = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Variables | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Variables | None = None
    ) -> asyncio.TimerHandle:
        _refuse_caller(_WAIT_FOR)
        handle = TimerHandle(when, callback, args, self, context)
        if self.evicting:
            return handle  # never fires; whoever waits for it is unwound
        handle.path = self.timers.start_timer(round(when * MICROSECONDS), lambda: self._fire(handle))
        return handle

    def _fire(self, handle: TimerHandle) -> None:
        if not handle.cancelled():
            self._ready.append(handle)

    def _timer_handle_cancelled(self, handle: TimerHandle) -> None:
        self.timers.cancel_timer(handle.path)

    def create_future(self) -> DurableFuture:
        future = DurableFuture(loop=self)
        self.track(future)
        return future

    def track(self, future: asyncio.Future[Any]) -> None:
        """Whoever awaits ``future`` is unwound when the machine leaves memory."""
        if len(self._futures) >= self._sweep_at:
            self._futures = [each for each in self._futures if not each.done()]
            self._sweep_at = max(256, 2 * len(self._futures))
        self._futures.append(future)

    def create_task(
        self, coro: Any, *, name: str | None = None, context: Variables | None = None, **_: Any
    ) -> DurableTask:
        try:
            _refuse_caller(_WAIT_FOR | _AS_COMPLETED)
        except SideEffect:
            coro.close()  # it will never run, and nobody need be told
            raise
        if not asyncio.iscoroutine(coro):
            coro = _awaited(coro)  # group.create_task(ctx.step(...)) is what people write
        variables = context.copy() if context is not None else copy_context()
        branch = current_branch.get().fork()
        variables.run(current_branch.set, branch)
        task = self.spawn(coro, variables, name or branch.prefix)
        code = getattr(coro, "cr_code", None)
        if code is not None and is_library(code):
            task.made_at = here()
        return task

    def spawn(self, coro: Coroutine[Any, Any, Any], variables: Variables, name: str | None = None) -> DurableTask:
        """A task in these context variables, which already hold its branch."""
        order = self.next_order()
        task = DurableTask(coro, order=order, loop=self, name=name, context=variables)
        self._tasks[order] = task
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Future[Any]) -> None:
        self._tasks.pop(hash(task), None)
        error = getattr(task, "_exception", None)  # to look at it is not to retrieve it
        if isinstance(error, WorkflowBug):
            self.bugs.append((cast("DurableTask", task), error))

    def raise_unseen_bug(self) -> None:
        """A bug in a task or callback that nobody has looked at by now stalls the run, like one in the workflow
        itself."""
        bugs, self.bugs = self.bugs, []
        for task, bug in bugs:
            if task is None or task._log_traceback:  # pyright: ignore  # asyncio's own mark of "never retrieved"
                raise bug

    def cancel_all_but(self, kept: asyncio.Task[Any]) -> None:
        """Cancel every other task, in the order of their creation."""
        for task in list(self._tasks.values()):
            if task is not kept:
                task.cancel()

    def line_in(self, branch: str) -> str:
        """``file:line`` at which the task of a branch (``b1/``) waits, else the workflow itself; empty if it has
        ended."""
        named = {task.get_name(): task for task in self._tasks.values() if not task.done()}
        task = named.get(branch) or named.get("root")
        return line_of_task(task) if task is not None else ""

    def next_order(self) -> int:
        self._order += 1
        return self._order

    def time(self) -> float:
        return self.now_us / MICROSECONDS

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """An exception that nobody retrieved: asyncio would log it; workflow code is replayed, so nothing is said."""
        bug = context.get("exception")
        if "handle" in context and isinstance(bug, WorkflowBug):  # of a callback, not of the garbage collector
            self.bugs.append((None, bug))

    def call_soon_threadsafe(self, callback: Callable[..., Any], *args: Any, context: Any = None) -> asyncio.Handle:
        raise SideEffect("loop.call_soon_threadsafe", here(), IN_A_STEP)

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        raise SideEffect("a thread (run_in_executor or asyncio.to_thread)", here(), IN_A_STEP)

    # --- driving it -----------------------------------------------------------------------------------------------

    def run_ready(self) -> None:
        """Run callbacks until none is ready. Raises Stalled when workflow code never comes to rest."""
        ready = self._ready
        if not ready:
            return
        outer = asyncio._get_running_loop()
        outer_task = asyncio.current_task(outer) if outer is not None else None
        if outer is not None and outer_task is not None:
            _leave_task(outer, outer_task)
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(firstiter=None, finalizer=_abandon)
        asyncio._set_running_loop(self)
        left = self.callbacks_max
        self.busy = True
        try:
            while ready:
                handle = ready.popleft()
                if not handle._cancelled:  # pyright: ignore  # the hot loop: cancelled() costs a call
                    try:
                        handle._run()
                    except SystemExit:
                        pass  # it is the end of its task, and not of the process
                left -= 1
                if not left:
                    raise Stalled(line_behind(handle), f"{self.callbacks_max:,} callbacks")
                if self.interrupted:
                    break
        finally:
            self.busy = False
            asyncio._set_running_loop(outer)
            sys.set_asyncgen_hooks(*hooks)
            if outer is not None and outer_task is not None:
                _enter_task(outer, outer_task)
        if self.interrupted and not self.evicting:
            raise Stalled(self.interrupted, "too long")

    def evict(self) -> list[str]:
        """Unwind every task: ``Evicted`` is raised at each of its awaits until it has ended.

        Returns:
            Names of tasks that would not end, which can only be code that swallows BaseException in an endless loop.
        """
        self.evicting = True
        self.interrupted = ""
        for _ in range(EVICTION_ROUNDS_MAX):
            futures, self._futures = self._futures, []
            for future in futures:
                unwind(future)
            self.callbacks_max = 1_000 + 100 * len(self._tasks)
            try:
                self.run_ready()
            except Stalled:
                self._ready.clear()
            if not self._tasks:
                break
            if not self._futures:
                for task in list(self._tasks.values()):
                    task.cancel()
        self._ready.clear()
        _undead.extend(self._tasks.values())
        return [task.get_name() for task in self._tasks.values()]


_undead: list[DurableTask] = []
"""Tasks that would not end. They stay, since to collect them would be to run their clean-up code at any moment."""


def _abandon(generator: Any) -> None:
    """An async generator that is dropped half-way stays so: closing it would depend on the garbage collector."""


async def _awaited(work: Awaitable[Any]) -> Any:
    return await work


def unwind(future: asyncio.Future[Any]) -> None:
    """Let whoever awaits ``future`` see that the machine leaves memory."""
    if not future.done():
        future.set_exception(Evicted())
        future.exception()  # retrieved: nobody need be told


_WAIT_FOR = frozenset({asyncio.wait_for.__code__})
_ITERATOR: Any = getattr(asyncio.tasks, "_AsCompletedIterator", None)  # does as_completed's work from 3.13 on
_AS_COMPLETED = frozenset({asyncio.as_completed.__code__, *([_ITERATOR.__init__.__code__] if _ITERATOR else [])})
_INSTEAD = {
    "wait_for": ("asyncio.wait_for", "use 'async with asyncio.timeout(seconds):'"),
    "as_completed": ("asyncio.as_completed on coroutines", "give it tasks made with asyncio.create_task"),
    "__init__": ("asyncio.as_completed on coroutines", "give it tasks made with asyncio.create_task"),
}


def _refuse_caller(refused: frozenset[Any]) -> None:
    """These functions of asyncio make their tasks in an order or a number that differs between processes or Pythons."""
    frame = sys._getframe(2)  # pyright: ignore[reportPrivateUsage]
    for _ in range(4):
        if frame.f_code in refused:
            what, instead = _INSTEAD[frame.f_code.co_name]
            raise SideEffect(what, here(), instead)
        if frame.f_back is None:
            return
        frame = frame.f_back


def _unsupported(name: str) -> Callable[..., Any]:
    def refuse(self: DurableLoop, *_: Any, **__: Any) -> Any:
        raise SideEffect(f"asyncio's loop.{name}", here(), IN_A_STEP)

    return refuse


DeterministicLoop.bottom = DurableLoop.run_ready.__code__
for _name, _member in vars(asyncio.AbstractEventLoop).items():
    if callable(_member) and not _name.startswith("__") and _name not in vars(DurableLoop):
        setattr(DurableLoop, _name, _unsupported(_name))
