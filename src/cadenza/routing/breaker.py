"""A circuit breaker: who fails too often is left alone for a while, and then probed once. Pure: time is passed in.

closed      calls go through; the last ``window`` of them are counted
open        nobody calls; after ``open_s`` it is half-open
half-open   one call goes through as a probe: it closes the breaker, or opens it for twice as long

Source: M. Nygard, *Release It!* (2nd ed. 2018), chapter 5; the window by count is that of Resilience4j.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

from cadenza.errors import DefinitionError

State = Literal["closed", "open", "half-open"]
US = 1_000_000


@dataclass(frozen=True, slots=True)
class BreakerOptions:
    """When to leave an instance alone.

    Attributes:
        window: how many of the last calls count.
        calls_min: with fewer than this, it stays closed.
        failure_share: of those calls, from which on it opens (0 to 1).
        open_s: seconds before the first probe; each failed probe doubles them.
        open_s_max: bound on that.
    """

    window: int = 20
    calls_min: int = 5
    failure_share: float = 0.5
    open_s: float = 5.0
    open_s_max: float = 30.0

    def __post_init__(self) -> None:
        if not 1 <= self.calls_min <= self.window:
            raise DefinitionError(f"breaker: calls_min={self.calls_min} must be from 1 to window={self.window}")
        if not 0 < self.failure_share <= 1:
            raise DefinitionError(f"breaker: failure_share is over 0 and at most 1, not {self.failure_share}")
        if not 0 < self.open_s <= self.open_s_max:
            raise DefinitionError(f"breaker: open_s={self.open_s} must be over 0 and at most {self.open_s_max=}")


@dataclass(frozen=True, slots=True)
class Seen:
    """A breaker, as others see it. ``until`` is when the next probe may go, in microseconds; 0 if it is closed."""

    state: State
    failed: int
    counted: int
    until: int = 0


class Breaker:
    """The breaker of one instance. All times are microseconds on any one clock."""

    def __init__(self, options: BreakerOptions) -> None:
        self.options = options
        self._last: deque[bool] = deque(maxlen=options.window)
        self._until = 0
        self._open_us = 0
        self._probe_since: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether it is open or half-open."""
        return self._open_us > 0

    def state(self, now: int) -> State:
        if not self._open_us:
            return "closed"
        return "open" if now < self._until else "half-open"

    def seen(self, now: int) -> Seen:
        return Seen(self.state(now), self._last.count(False), len(self._last), self._until if self._open_us else 0)

    def wait_us(self, now: int) -> int:
        """How long a call must not go through; 0 if it may now."""
        if not self._open_us:
            return 0
        if now < self._until:
            return self._until - now
        if self._probe_since is None:
            return 0
        return max(0, self._probe_since + self._open_us - now)  # a probe that says nothing does not block for ever

    def begin(self, now: int) -> bool:
        """A call goes through, which ``wait_us`` allows; says whether it is the probe."""
        assert not self.wait_us(now), "a call through an open breaker"
        if not self._open_us:
            return False
        self._probe_since = now
        return True

    def ended(self, ok: bool, now: int, *, probe: bool = False) -> bool:
        """A call has ended; an unknown outcome is a failure. Says whether the breaker has opened or closed by it."""
        if self._open_us:
            if not probe:  # it began before the breaker opened
                return False
            self._probe_since = None
            if ok:
                self._open_us, self._until = 0, 0
                self._last.clear()
            else:
                self._open(min(2 * self._open_us, round(self.options.open_s_max * US)), now)
            return True
        self._last.append(ok)
        failed = self._last.count(False)
        if ok or len(self._last) < self.options.calls_min or failed < self.options.failure_share * len(self._last):
            return False
        self._open(round(self.options.open_s * US), now)
        return True

    def abandoned(self, *, probe: bool = False) -> None:
        """A call was given up by its caller, and says nothing of the instance."""
        if probe:
            self._probe_since = None

    def _open(self, open_us: int, now: int) -> None:
        self._open_us, self._until = open_us, now + open_us
