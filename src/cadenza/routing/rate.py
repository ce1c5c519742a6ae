"""Requests and tokens a minute of one instance, shared by all workers of a file: a token bucket in the catalogue.

A call takes its place at once and then waits until it is due: first come, first served, in one transaction and with no
polling. What a call will cost in tokens is not known before: it takes the mean of those that were seen, and settles the
difference when it has ended. The bucket holds ten seconds' worth.
"""

from __future__ import annotations

import asyncio
from functools import cache
from importlib import resources
from typing import Any, Literal

from cadenza.engine.catalogue import Catalogue, current_catalogue
from cadenza.errors import Overloaded

COMPONENT, VERSION = "routing_rate", 1
BURST_S = 10.0
Kind = Literal["requests", "tokens"]


def refilled(level: float, at: int, now: int, per_minute: float) -> float:
    """What is in a bucket ``now`` that had ``level`` in it ``at``. Pure; microseconds."""
    most = max(1.0, per_minute * BURST_S / 60.0)
    return min(most, level + max(0, now - at) * per_minute / 60e6)


def due_us(level: float, per_minute: float) -> int:
    """How long it takes until a bucket with a debt is level again."""
    return max(0, round(-level * 60e6 / per_minute))


class Rate:
    """One bucket.

    Args:
        key: of the instance.
        wait_s: how long a call may wait for its turn.
    """

    def __init__(self, key: str, kind: Kind, per_minute: float, wait_s: float) -> None:
        self._key, self._kind, self._per_minute, self._wait_s = key, kind, per_minute, wait_s

    async def enter(self, amount: float, now: int) -> None:
        """Take ``amount``, and wait until it is due. Raises Overloaded if that is too long: nothing is taken then."""
        wait_us = self._take(amount, now, round(self._wait_s * 1e6))
        if wait_us < 0:
            reason = f"{self._per_minute:g} {self._kind} a minute are used up for more than {self._wait_s:g} s"
            raise Overloaded(self._key, reason, round(-wait_us / 1e6, 3))
        if wait_us:
            try:
                await asyncio.sleep(wait_us / 1e6)
            except asyncio.CancelledError:
                self.settle(-amount, now)  # it was not used
                raise

    def settle(self, amount: float, now: int) -> None:
        """Take what a call has cost beyond what it took before; give back where that is negative."""
        self._take(amount, now, None)

    def _take(self, amount: float, now: int, wait_us_max: int | None) -> int:
        """Microseconds to wait; negative, and nothing is taken, if they are over the bound."""

        def take(connection: Any) -> int:
            rows = connection.execute(
                "SELECT level, at FROM routing_rate WHERE key = ? AND kind = ?", (self._key, self._kind)
            ).fetchall()
            level, at = rows[0] if rows else (self._per_minute, 0)
            level, at = refilled(level, at, now, self._per_minute) - amount, max(at, now)
            wait_us = due_us(level, self._per_minute)
            if wait_us_max is not None and wait_us > wait_us_max:
                return -wait_us
            row = (self._key, self._kind, level, at)
            connection.execute("REPLACE INTO routing_rate (key, kind, level, at) VALUES (?, ?, ?, ?)", row)
            return wait_us

        return _with_tables(current_catalogue.get()).write(take)


def _with_tables(catalogue: Catalogue) -> Catalogue:
    catalogue.ensure(COMPONENT, VERSION, _tables())
    return catalogue


@cache
def _tables() -> str:
    return resources.files("cadenza.routing").joinpath("rate_tables.sql").read_text(encoding="utf-8")
