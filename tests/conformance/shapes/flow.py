"""Shapes of plain flow: chains, gathers, groups, races, and tasks that share what they know."""

from __future__ import annotations

import asyncio
from typing import Any

from cadenza import Context, StepError, workflow
from tests.conformance.shapes.steps import Declined, decline, double, fail, flaky, look, note, pay, remember, triple


@workflow
async def chain(ctx: Context, n: int) -> dict[str, Any]:
    """One after the other; each input is the output before."""
    seen = []
    for _ in range(5):
        n = await ctx.step(double, n)
        seen.append(await ctx.step(look, n))
    n = await ctx.step(triple, n=n)
    receipt = await ctx.step(pay, n)
    return {
        "n": n,
        "seen": seen,
        "receipt": receipt,
        "memo": await ctx.step(remember, 1),
        "flaky": await ctx.step(flaky, 7),
    }


@workflow
async def fan_out(ctx: Context, n: int) -> list[Any]:
    """A gather of calls, whose order of arrival is open."""
    results = await asyncio.gather(*(ctx.step(double, i) for i in range(n)))
    return [*results, await ctx.step(double, sum(results))]


@workflow
async def nested_gathers(ctx: Context, depth: int) -> int:
    """A tree of coroutines: branches within branches."""

    async def node(level: int, place: int) -> int:
        if level == 0:
            return await ctx.step(double, place)
        left, right = await asyncio.gather(node(level - 1, 2 * place), node(level - 1, 2 * place + 1))
        return await ctx.step(double, left + right)

    return await node(depth, 0)


@workflow
async def groups(ctx: Context) -> list[int]:
    """Task groups in task groups; an inner one is left while outer tasks are still at work."""

    async def inner(n: int) -> int:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work(10 * n + i)) for i in range(2)]
        return await ctx.step(double, sum(task.result() for task in tasks))

    async def work(n: int) -> int:
        return await ctx.step(double, await ctx.step(triple, n))

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(inner(n), name=f"inner-{n}") for n in range(3)]
        tasks.append(group.create_task(work(99)))
    return [task.result() for task in tasks]


@workflow
async def failing_groups(ctx: Context) -> list[str]:
    """Several children fail, in an order that is open; siblings clean up; the outer group fails of the inner one."""
    log: list[str] = []

    async def bad(name: str, delay: int) -> None:
        for i in range(delay):
            log.append(str(await ctx.step(note, f"{name}{i}")))
        await ctx.step(fail, name)

    async def careful(name: str) -> None:
        try:
            for i in range(4):
                await ctx.step(note, f"{name}{i}")
        finally:
            log.append(await ctx.step(note, f"clean-up of {name} after {len(log)}"))

    async def inner() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(bad("x", 1))
            group.create_task(careful("y"))
            group.create_task(bad("z", 0))

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(careful("a"))
            group.create_task(inner())
            group.create_task(bad("b", 2))
    except* StepError as errors:
        log.append(await ctx.step(note, flatten(errors)))
    return log


def flatten(error: BaseException) -> str:
    """An exception group in one line: its order is part of what must be the same in every replay."""
    if isinstance(error, BaseExceptionGroup):
        return f"[{', '.join(flatten(each) for each in error.exceptions)}]"
    return getattr(error, "path", type(error).__name__)


@workflow
async def first_wins(ctx: Context) -> dict[str, Any]:
    """The first of several tasks decides; the others are cancelled, and one of them cannot be."""

    async def runner(name: str, stages: int) -> str:
        for i in range(stages):
            name = await ctx.step(note, f"{name}{i}")
        return name

    racers = [asyncio.create_task(runner(name, stages)) for name, stages in (("a", 3), ("b", 2), ("c", 4))]
    racers.append(asyncio.ensure_future(payer(ctx)))
    done, pending = await asyncio.wait(racers, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    ends = await asyncio.gather(*racers, return_exceptions=True)
    winner = next(task.result() for task in racers if task in done)
    return {"winner": winner, "ends": [end if isinstance(end, str) else type(end).__name__ for end in ends]}


async def payer(ctx: Context) -> str:
    return await ctx.step(pay, 5)


@workflow
async def in_order_of_arrival(ctx: Context) -> list[str]:
    """as_completed over tasks: what is done with each depends on which came when."""
    tasks = [asyncio.create_task(describe(ctx, n)) for n in range(4)]
    found = []
    for place, nearest in enumerate(asyncio.as_completed(tasks)):
        text = await nearest
        found.append(await ctx.step(note, f"{place}:{text}"))
    return found


async def describe(ctx: Context, n: int) -> str:
    if n % 2:
        await ctx.step(look, n)
    return f"{n}={await ctx.step(double, n)}"


@workflow
async def shared_state(ctx: Context) -> dict[str, Any]:
    """Tasks read and write the same local state between their steps: the inputs depend on the order of arrival."""
    state: dict[str, Any] = {"log": [], "sum": 0}

    async def work(name: str) -> None:
        for _ in range(3):
            seen = await ctx.step(look, {"name": name, "before": list(state["log"])})
            state["log"].append(f"{name}{len(seen[1]['before'])}")
            state["sum"] += await ctx.step(double, len(state["log"]))

    await asyncio.gather(*(work(name) for name in "abc"))
    state["last"] = await ctx.step(note, ",".join(state["log"]))
    return state


@workflow
async def locks_and_queues(ctx: Context) -> dict[str, Any]:
    """Workers of a bounded queue, under a semaphore and a lock, started by an event, counted by a condition."""
    queue: asyncio.Queue[int | None] = asyncio.Queue(maxsize=2)
    room, lock, go = asyncio.Semaphore(2), asyncio.Lock(), asyncio.Event()
    changed = asyncio.Condition()
    order: list[int] = []

    async def worker() -> int:
        await go.wait()
        count = 0
        while (item := await queue.get()) is not None:
            async with room:
                result = await ctx.step(double, item)
            async with lock:
                order.append(await ctx.step(double, result + len(order)))
            async with changed:
                changed.notify_all()
            count += 1
        return count

    async def watcher() -> int:
        async with changed:
            await changed.wait_for(lambda: len(order) >= 4)
        return len(order)

    async with asyncio.TaskGroup() as group:
        workers = [group.create_task(worker()) for _ in range(3)]
        watching = group.create_task(watcher())
        await ctx.step(note, "ready")
        go.set()
        for item in [*range(6), None, None, None]:
            await queue.put(item)
    counts = [task.result() for task in workers]
    return {"counts": sum(counts), "items": len(order), "watched": watching.result() >= 4}


@workflow
async def failures(ctx: Context) -> list[str]:
    """Errors as workflow code sees them: declared ones as themselves, others as StepError; a retry loop of its own."""
    log = []
    for attempt in range(3):
        try:
            await ctx.step(fail, f"attempt {attempt}")
        except StepError as error:
            log.append(f"{error.path} {error.failure.short_type}")
            await asyncio.sleep(0.001 * 2**attempt)
    try:
        await ctx.step(decline, "no")
    except Declined as error:
        log.append(f"declined {error} of {type(error.__cause__).__name__}")
    ends = await asyncio.gather(
        ctx.step(fail, "x"), ctx.step(decline, "y"), ctx.step(double, 1), return_exceptions=True
    )
    return log + [type(end).__name__ if isinstance(end, Exception) else str(end) for end in ends]
