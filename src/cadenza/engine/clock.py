"""Time, passed in: wall time for the journal, and a clock for leases that also runs while the machine sleeps."""

from __future__ import annotations

import time
from typing import Protocol

_SINCE_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock(Protocol):
    """The engine's only sources of time."""

    def now(self) -> int:
        """Microseconds since 1970, UTC."""
        ...

    def elapsed_s(self) -> float:
        """Seconds on a clock that never goes back, and goes on while the process is stopped or the machine asleep."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> int:
        return time.time_ns() // 1_000

    def elapsed_s(self) -> float:
        return time.clock_gettime(_SINCE_BOOT)
