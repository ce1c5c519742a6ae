"""A second request where the first takes long: whichever answers first wins, and the other is cancelled.

Source: J. Dean, L. A. Barroso, *The Tail at Scale*, CACM 56 (2013): a hedge after the 95th percentile adds about 5 %
of load. Where everything is slow it would add 100 %: hedges take from the retry budget.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Literal

SEEN_MIN, SEEN_MAX = 20, 200
HedgeAfter = Literal["p95"] | float


class Latencies:
    """The last ones of an instance, in seconds."""

    def __init__(self) -> None:
        self._seen: deque[float] = deque(maxlen=SEEN_MAX)

    def add(self, latency_s: float) -> None:
        self._seen.append(latency_s)

    def p95(self) -> float | None:
        """None before twenty were seen."""
        if len(self._seen) < SEEN_MIN:
            return None
        return sorted(self._seen)[int(0.95 * len(self._seen))]


async def hedged(
    ask: Callable[[], Awaitable[Any]], after_s: float, allowed: Callable[[], bool]
) -> tuple[Any, Literal["", "first", "second"]]:
    """The answer of ``ask``, and which of two requests has won; "" if there was only one.

    Args:
        allowed: asked before the second request is made.

    Raises:
        What the first raises, if there is no second or that has failed too.
    """
    first = asyncio.ensure_future(ask())
    tasks = [first]
    try:
        await asyncio.wait([first], timeout=after_s)
        if first.done() or not allowed():
            return await first, ""
        second = asyncio.ensure_future(ask())
        tasks.append(second)
        waiting = {first, second}
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for each in (first, second):
                if each in done and not each.cancelled() and each.exception() is None:
                    return each.result(), "first" if each is first else "second"
        return first.result(), "first"
    finally:
        for each in tasks:
            each.cancel()
        await asyncio.wait(tasks)
        for each in tasks:
            if not each.cancelled():
                each.exception()
