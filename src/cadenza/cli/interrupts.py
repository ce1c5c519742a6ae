"""Ctrl-C and SIGTERM: the first asks for an orderly end, the second ends the process at once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from types import FrameType, TracebackType
from typing import Any, Self

from cadenza.cli import exit_codes

SHOW_CURSOR = "\x1b[?25h"


class Interrupts:
    """``with Interrupts() as interrupts:`` around ``asyncio.run``; inside of it, ``await interrupts.wait()``."""

    def __init__(self) -> None:
        self.count = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._event: asyncio.Event | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._interrupted)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    async def wait(self) -> None:
        """Until the first interrupt."""
        if self._event is None:
            self._loop, self._event = asyncio.get_running_loop(), asyncio.Event()
            if self.count:
                self._event.set()
        await self._event.wait()

    def park(self) -> None:
        """Ask for an orderly end, as the first interrupt does."""
        self.count = max(self.count, 1)
        if self._event is not None:
            self._event.set()

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.count > 1:
            # Steps that block the loop or a thread cannot be asked any more; the run goes on from its journal.
            if sys.stderr.isatty():
                os.write(2, SHOW_CURSOR.encode())
            os.write(2, b"\nStopped at once. Runs go on from their journals: cadenza resume\n")
            os._exit(exit_codes.INTERRUPTED)
        if self._loop is not None and self._event is not None:
            self._loop.call_soon_threadsafe(self._event.set)
