"""Shapes that wait: timers, deadlines, messages, people."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from cadenza import Context, HumanTask, InputInvalid, workflow
from tests.conformance.shapes.steps import book, double, look, note, pay

TICK_S = 0.002


@dataclass
class Reading:
    """A message with a type."""

    sensor: str
    value: float


@workflow
async def timers(ctx: Context) -> list[Any]:
    """Sleeps of different lengths at once, a callback by timer, a timer that is cancelled, one in the past."""
    loop = asyncio.get_running_loop()
    log: list[Any] = []
    began = ctx.now()

    async def nap(name: str, ticks: int) -> None:
        await asyncio.sleep(ticks * TICK_S)
        log.append(name)
        await ctx.step(note, f"{name} after {len(log)}")

    handle = loop.call_later(2 * TICK_S, log.append, "callback")
    loop.call_later(3 * TICK_S, log.append, "never").cancel()
    await asyncio.gather(nap("a", 3), nap("b", 1), nap("c", 2), asyncio.sleep(0))
    loop.call_at(loop.time() - 1, log.append, "past")
    await asyncio.sleep(TICK_S)
    assert handle.when() >= began.timestamp()
    assert ctx.now() > began
    return sorted(each for each in log if each != "past")


@workflow
async def deadlines(ctx: Context) -> list[str]:
    """Time limits, nested and moved, around steps that may be left and one that may not."""
    log: list[str] = []
    for ticks in (0.5, 5):
        try:
            async with asyncio.timeout(ticks * TICK_S):
                log.append(await ctx.step(note, f"within {ticks}"))
        except TimeoutError:
            log.append(await ctx.step(note, f"late {ticks}"))
    try:
        async with asyncio.timeout(TICK_S):
            log.append(await ctx.step(pay, 1))
    except TimeoutError:
        log.append("paid late")
    try:
        async with asyncio.timeout(4 * TICK_S) as outer:
            try:
                async with asyncio.timeout(TICK_S):
                    await asyncio.gather(ctx.step(book, "x"), ctx.step(pay, 2), asyncio.sleep(2 * TICK_S))
            except TimeoutError:
                log.append(await ctx.step(note, "inner"))
            outer.reschedule(ctx.now().timestamp() + TICK_S)
            log.append(await ctx.step(note, "moved"))
    except TimeoutError:
        log.append("outer")
    return log


@workflow
async def messages(ctx: Context) -> dict[str, Any]:
    """Messages before and after they are waited for; two receivers of one name; types, and what does not fit them."""
    early = await ctx.step(look, 1)
    numbers = [await ctx.receive("number", int) for _ in range(2)]
    first, second = await asyncio.gather(ctx.receive("number", int), ctx.receive("number", int))
    reading = await ctx.receive("reading", Reading)
    try:
        wrong: Any = await ctx.receive("reading", Reading)
    except InputInvalid as error:
        wrong = len(error.problems)
    plain = await ctx.receive("plain")
    total = await ctx.step(double, sum(numbers) + first + second)
    return {
        "early": early,
        "numbers": [*numbers, first, second],
        "reading": [type(reading).__name__, reading.sensor, reading.value],
        "wrong": wrong,
        "plain": plain,
        "total": total,
    }


@workflow
async def mailbox(ctx: Context) -> list[Any]:
    """Tasks that compete for one kind of message, each with a deadline, one of which gives up and comes back."""
    log: list[Any] = []

    async def reader(name: str, ticks: float) -> None:
        while True:
            try:
                async with asyncio.timeout(ticks * TICK_S):
                    value = await ctx.receive("work")
            except TimeoutError:
                log.append(f"{name} waits")
                await ctx.step(look, len(log))
                continue
            if value is None:
                return
            log.append([name, await ctx.step(double, value)])

    await asyncio.gather(reader("a", 3), reader("b", 1), reader("c", 1_000))
    return sorted(each[1] for each in log if isinstance(each, list))


@workflow
async def people(ctx: Context) -> dict[str, Any]:
    """Questions of each kind, two open at once, one withdrawn by a deadline."""
    yes, choice = await asyncio.gather(
        ctx.ask(HumanTask("Ship it?", details={"to": "Oslo"})),
        ctx.ask(HumanTask("Which?", kind="choose", options=("red", "blue"))),
    )
    edited = await ctx.ask(HumanTask("Edit this", kind="edit", value={"text": "draft"}))
    try:
        async with asyncio.timeout(TICK_S):
            last: Any = (await ctx.ask(HumanTask("Anything else?", kind="respond"))).value
    except TimeoutError:
        last = "no answer"
    text = await ctx.step(note, f"{yes.approved} {choice.choice} by {choice.by}")
    return {"text": text, "edited": edited.value, "answered": last in ("no answer", 1)}


@workflow
async def chance(ctx: Context) -> list[Any]:
    """Time, identities and randomness of each branch, read between outcomes whose order is open."""
    log: list[Any] = []

    async def gamble(sides: int) -> None:
        for _ in range(3):
            roll = ctx.random.randint(1, sides)
            await ctx.step(look, [roll, str(ctx.uuid()), ctx.now().isoformat()])
            log.append(roll)
            if roll % 2:
                await asyncio.sleep(roll * TICK_S / 100)

    await asyncio.gather(gamble(6), gamble(20), gamble(100))
    shuffled = list(range(10))
    ctx.random.shuffle(shuffled)
    return [await ctx.step(note, str(sorted(log))), shuffled, str(ctx.uuid()), ctx.run_id]
