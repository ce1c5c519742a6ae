"""The workflows whose journals are recorded here. They are not changed: that is the point."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from cadenza import Context, HumanTask, Retry, StepError, agent, map_reduce, step, workflow


@dataclass
class Order:
    id: str
    cents: int
    lines: list[str]


@step
async def price(order: Order) -> int:
    return order.cents + len(order.lines)


@step(effect="read")
async def look_up(name: str) -> dict[str, str]:
    return {"name": name, "text": "x" * 20_000}


@step(effect="irreversible")
async def charge(cents: int) -> str:
    return f"charged {cents}"


async def unbook(booking: str | None) -> None:
    """Nothing to undo in a test."""


@step(effect="compensatable", undo=unbook)
async def book(name: str) -> str:
    return f"booked {name}"


@step(retry=Retry(attempts=2, delay_s=0.01))
async def flaky(name: str) -> str:
    if step.attempt() == 1:
        raise ConnectionError(name)
    return await step.memo("page", lambda: f"page of {name}")


@step
async def broken(name: str) -> None:
    raise ValueError(name)


@agent
async def shouter(text: str) -> str:
    return text.upper()


@workflow
async def chain(ctx: Context, order: Order) -> str:
    return await ctx.step(charge, await ctx.step(price, order))


@workflow
async def fan_out(ctx: Context, names: list[str]) -> list[str]:
    found = await asyncio.gather(*[ctx.step(look_up, name) for name in names])
    return [each["name"] for each in found]


@workflow
async def nested(ctx: Context, names: list[str]) -> list[str]:
    async def both(name: str) -> str:
        async with asyncio.TaskGroup() as group:
            first = group.create_task(ctx.step(flaky, name))  # pyright: ignore[reportArgumentType] - our loop takes awaitables
            second = group.create_task(ctx.call("shouter", name))  # pyright: ignore[reportArgumentType]
        return first.result() + second.result()

    return await asyncio.gather(*[both(name) for name in names])


@workflow
async def mapped(ctx: Context, names: list[str]) -> list[str]:
    return await map_reduce(ctx, names, "shouter", limit=2)


@workflow
async def timed(ctx: Context, name: str) -> str:
    await asyncio.sleep(0.02)
    try:
        async with asyncio.timeout(0.02):
            await ctx.receive("never")
    except TimeoutError:
        return f"{name} at {ctx.now():%Y} {ctx.uuid().version} {ctx.random.random() < 1}"
    return "no"


@workflow
async def talk(ctx: Context, name: str) -> str:
    answer = await ctx.ask(HumanTask(title="go on?", kind="choose", options=("yes", "no")))
    word = await ctx.receive("word", str)
    return f"{name} {answer.choice} {word}"


@workflow
async def parent(ctx: Context, name: str) -> str:
    return await ctx.run(timed, name)


@workflow
async def saga(ctx: Context, name: str) -> str:
    await ctx.step(book, name)
    ctx.compensate(unbook, "by hand")
    await ctx.step(broken, name)
    return "never"


@workflow
async def cancelled(ctx: Context, name: str) -> str:
    try:
        await ctx.receive("never")
    finally:
        await ctx.shield(ctx.step(book, name))
    return "never"


@workflow
async def continued(ctx: Context, count: int) -> int:
    await ctx.step(flaky, str(count))
    if count < 3:
        ctx.continue_as_new(count + 1)
    return count


@workflow
async def patched(ctx: Context, name: str) -> str:
    if ctx.patched("louder"):
        return await ctx.call("shouter", name)
    return name


@workflow
async def caught(ctx: Context, name: str) -> str:
    try:
        await ctx.step(broken, name)
    except StepError as error:
        return error.failure.short_type
    return "no"
