"""Shapes about runs: children, generations, and code that was changed under way."""

from __future__ import annotations

import asyncio
from typing import Any

from cadenza import ChildError, Context, StepError, workflow
from tests.conformance.shapes.steps import book, double, fail, look, note, pay
from tests.conformance.shapes.waiting import TICK_S


@workflow
async def doubler(ctx: Context, n: int) -> int:
    return await ctx.step(double, n)


@workflow
async def breaker(ctx: Context, text: str) -> int:
    return await ctx.step(fail, text)


@workflow
async def sleeper(ctx: Context, seconds: float) -> str:
    await asyncio.sleep(seconds)
    return f"slept {seconds}"


@workflow
async def listener(ctx: Context) -> list[Any]:
    return [await ctx.receive("word", str) for _ in range(2)]


@workflow
async def children(ctx: Context) -> list[Any]:
    """Children that are awaited: one after the other, side by side, failing, and by name."""
    first = await ctx.run(doubler, 1)
    many = await asyncio.gather(*(ctx.run(doubler, n) for n in range(3)), ctx.run(breaker, "x"), return_exceptions=True)
    try:
        await ctx.run(breaker, "y")
    except ChildError as error:
        last = f"{error.status} {error.failure.short_type if error.failure else ''}"
    else:
        last = "no error"
    named = await ctx.run(f"{doubler.name}", first)
    return [first, [each if isinstance(each, int) else type(each).__name__ for each in many], last, named]


@workflow
async def nested_children(ctx: Context, depth: int) -> int:
    """Runs within runs."""
    if depth == 0:
        return await ctx.step(double, 1)
    left, right = await asyncio.gather(ctx.run(nested_children, depth - 1), ctx.run(doubler, depth))
    return left + right


@workflow
async def beside(ctx: Context) -> dict[str, Any]:
    """Children that go on beside: talked to, waited for late, waited for in vain, and never."""
    ears = ctx.start(listener)
    slow = ctx.start(sleeper, 0.5 * TICK_S)
    ctx.start(doubler, 5)
    broken = ctx.start(breaker, "b")
    await ears.send("word", "one")
    text = await ctx.step(note, "between")
    await ctx.send(ears.run_id, "word", "two")
    heard = await ears.result()
    try:
        await broken.result()
    except ChildError as error:
        status = error.status
    else:
        status = "completed"
    try:
        await ctx.send("no-such-run", "word", 1)
    except StepError as error:
        lost = error.name
    else:
        lost = "sent"
    return {"heard": heard, "text": text, "slept": await slow.result(), "status": status, "lost": lost}


@workflow
async def cancelled_children(ctx: Context) -> list[str]:
    """A deadline around a child that takes too long; a race in which a child loses."""
    log = []
    try:
        async with asyncio.timeout(TICK_S):
            log.append(await ctx.run(sleeper, 1_000))
    except TimeoutError:
        log.append("too slow")
    race = [asyncio.ensure_future(ctx.run(sleeper, 1_000)), asyncio.ensure_future(ctx.run(doubler, 2))]
    await asyncio.wait(race, return_when=asyncio.FIRST_COMPLETED)
    race[0].cancel()
    ends = await asyncio.gather(*race, return_exceptions=True)
    log.append(await ctx.step(note, ",".join(str(end) if isinstance(end, int) else type(end).__name__ for end in ends)))
    return log


@workflow
async def continued(ctx: Context, state: dict[str, Any]) -> dict[str, Any]:
    """Five generations: unread messages, a child's handle and what is to be undone are carried along."""
    n = state.get("n", 0)
    if n == 0:
        handle = ctx.start(doubler, 21)
        state["child"] = handle.run_id
        await ctx.step(book, "once")
    text = await ctx.step(note, f"{n} {ctx.generation} {ctx.random.randint(1, 9)}")
    state.setdefault("seen", []).append([text, await ctx.receive("number", int)])
    if n == 2:
        asyncio.ensure_future(ctx.step(pay, n))
    if n < 4:
        ctx.continue_as_new({**state, "n": n + 1})
    numbers = [number for _, number in state["seen"]]
    return {"numbers": numbers, "child": await ctx.child(state["child"], int).result(), "generation": ctx.generation}


@workflow
async def continued_in_a_group(ctx: Context, n: int) -> int:
    """Continues as new from within a task group, whose children are cancelled by that."""
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(1_000 if n < 3 else TICK_S))
        await ctx.step(look, n)
        if n < 3:
            ctx.continue_as_new(n + 1)
    return n


@workflow
async def continued_then_undone(ctx: Context, n: int) -> None:
    """Books once a generation, then fails: all of it is undone, last first."""
    await ctx.step(book, f"generation {n}")
    ctx.compensate(note, f"by hand {n}")
    if n < 2:
        ctx.continue_as_new(n + 1)
    await ctx.step(fail, "at the end")


@workflow
async def patched(ctx: Context, n: int) -> list[Any]:
    """Takes new code at several points, in tasks whose order is open."""
    log: list[Any] = []

    async def work(name: str) -> None:
        await ctx.step(look, name)
        if ctx.patched("greeting"):
            log.append(await ctx.step(note, f"new {name}"))
        else:
            log.append(await ctx.step(look, f"old {name}"))
        if ctx.patched(f"sum-{name}"):
            log.append(await ctx.step(double, n))

    await asyncio.gather(work("a"), work("b"))
    return sorted(map(str, log))
