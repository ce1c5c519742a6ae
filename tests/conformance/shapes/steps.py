"""The steps that the shapes share: pure functions of their arguments, at least one of each effect.

The pure driver calls them as they are. In the real engine they take a moment each (``dawdle``), so that outcomes arrive
in many orders.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

from cadenza import Retry, step


class Declined(Exception):
    """Declared by ``decline``: final, and known to have had no effect."""


class Pace:
    """How long a step takes at most, in seconds; zero where there is no real loop."""

    delay_s_max = 0.0


async def dawdle() -> None:
    if Pace.delay_s_max:
        await asyncio.sleep(random.uniform(0, Pace.delay_s_max))


@step(effect="read")
async def look(x: Any) -> Any:
    await dawdle()
    return ["seen", x]


@step
async def double(n: int) -> int:
    await dawdle()
    return 2 * n


@step
def triple(n: int) -> int:
    """Sync: the engine runs it in a thread."""
    return 3 * n


@step
async def note(text: str) -> str:
    await dawdle()
    return f"<{text}>"


@step(effect="irreversible")
async def pay(amount: int) -> str:
    await dawdle()
    return f"paid {amount}"


@step
async def fail(text: str) -> int:
    await dawdle()
    raise ValueError(text)


@step(raises=(Declined,))
async def decline(text: str) -> int:
    await dawdle()
    raise Declined(text)


@step(effect="irreversible", raises=(Declined,))
async def refuse(text: str) -> int:
    await dawdle()
    raise Declined(text)


@step
async def unbook(receipt: str | None) -> None:
    await dawdle()


@step(effect="compensatable", undo=unbook)
async def book(what: str) -> str:
    await dawdle()
    return f"booked {what}"


@step(effect="compensatable", undo=unbook)
async def fumble(what: str) -> str:
    """Fails, and may have booked."""
    await dawdle()
    raise ValueError(what)


@step
async def unbook_badly(receipt: str | None) -> None:
    await dawdle()
    raise RuntimeError("cannot be undone")


@step(effect="compensatable", undo=unbook_badly)
async def book_for_good(what: str) -> str:
    await dawdle()
    return f"booked {what}"


@step(effect="irreversible")
async def send_apology(to: str) -> None:
    await dawdle()


@step(retry=Retry(attempts=3, delay_s=0.002))
async def flaky(n: int) -> int:
    """Fails twice in the engine; the pure driver sees only its end."""
    await dawdle()
    if 0 < step.attempt() < 3:
        raise ValueError("not yet")
    return n


@step
async def remember(n: int) -> int:
    """Has sub-results of its own."""
    await dawdle()
    first = await step.memo("first", lambda: n + 1)
    return await step.memo("second", lambda: first + 1, effect="read")
