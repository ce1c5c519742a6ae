"""Stops workflow code that does not yield, and says at which line it was.

Workflow code runs on the loop's thread, so a loop without an await would hold up everything. The lease's thread looks
at what the loop's thread is doing; past the limit it raises an exception there (``PyThreadState_SetAsyncExc``).
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

from cadenza.durable.events import AnyEvent
from cadenza.durable.guard import stalled_line
from cadenza.durable.machine import Machine
from cadenza.engine.clock import Clock
from cadenza.errors import Evicted, Stalled


class Watchdog:
    """Guards the machines of one loop's thread. ``look`` is called from another thread, now and then."""

    def __init__(self, clock: Clock, stall_s: float) -> None:
        self._clock, self._stall_s = clock, stall_s
        self._machine: Machine | None = None
        self._began_s = 0.0
        self._lock = threading.Lock()
        self._thread_id = threading.get_ident()

    def apply(self, machine: Machine, event: AnyEvent) -> None:
        """``machine.apply(event)``, watched. Raises Stalled."""
        self.guard(machine, machine.apply, event)

    def guard(self, machine: Machine, action: Callable[..., None], *args: AnyEvent) -> None:
        """``action(*args)``, watched. Raises Stalled."""
        self._began_s = self._clock.elapsed_s()
        self._machine = machine
        try:
            try:
                action(*args)
            finally:
                with self._lock:
                    self._machine = None
        except Evicted:
            if not machine.loop.interrupted:
                raise
        except Stalled:
            if not machine.loop.interrupted:
                raise
        if machine.loop.interrupted:
            self._raise_in_thread(None)
            raise Stalled(machine.loop.interrupted, f"{self._stall_s:g} s")

    def look(self) -> None:
        """Interrupt workflow code that has been computing for too long.

        Code that runs callback after callback is asked to stop between two of them, which leaves its tasks whole. Only
        code that has not come to the end of one by the next look is interrupted where it is.
        """
        with self._lock:
            machine = self._machine
            if machine is None or self._clock.elapsed_s() - self._began_s < self._stall_s:
                return
            frame = sys._current_frames().get(self._thread_id)  # pyright: ignore[reportPrivateUsage] - the only way
            if machine.loop.interrupted:
                self._raise_in_thread(Evicted)
            machine.loop.interrupted = stalled_line(frame)

    def _raise_in_thread(self, error: type[BaseException] | None) -> None:
        target = ctypes.py_object(error) if error is not None else None
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread_id), target)


@contextmanager
def looked_after(watchdog: Watchdog, pause_s: float) -> Generator[None]:
    """The watchdog looks, from a thread of its own, for code that does not yield."""
    done = threading.Event()

    def look() -> None:
        while not done.wait(pause_s):
            watchdog.look()

    thread = threading.Thread(target=look, name="cadenza-watchdog", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
