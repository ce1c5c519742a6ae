"""Shapes about the life of tasks: cancellation and clean-up, sets of tasks, callbacks, generators, stragglers."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Any

from cadenza import Context, StepError, workflow
from tests.conformance.shapes.steps import book, double, fail, look, note, pay
from tests.conformance.shapes.waiting import TICK_S


@workflow
async def clean_up(ctx: Context) -> str:
    """Waits for a message that need not come; cancelled at any point it cleans up, partly under a shield."""
    log: list[str] = []

    async def guarded(name: str) -> None:
        try:
            await ctx.step(note, f"work {name}")
            await ctx.receive("never")
        except asyncio.CancelledError:
            log.append(await ctx.step(note, f"handler of {name}"))
            raise
        finally:
            await ctx.shield(closing(name))

    async def closing(name: str) -> None:
        await ctx.step(look, name)
        log.append(await ctx.step(note, f"closed {name}"))

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(guarded("a"))
            group.create_task(guarded("b"))
            await ctx.receive("stop")
            raise StopIteration
    except* StopIteration:
        log.append(await ctx.step(note, "stopped"))
    return ",".join(sorted(log))


@workflow
async def deaf(ctx: Context) -> list[str]:
    """Swallows cancellation: of its own tasks, and of the run, which then completes all the same."""
    log: list[str] = []

    async def stubborn(name: str) -> None:
        for _ in range(3):
            try:
                log.append(await ctx.step(note, f"{name}{len(log)}"))
            except asyncio.CancelledError:
                log.append(f"{name} will not")

    task = asyncio.create_task(stubborn("t"))
    with contextlib.suppress(asyncio.CancelledError):
        await ctx.step(look, 1)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await stubborn("r")
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return log


@workflow
async def sets_of_tasks(ctx: Context) -> list[str]:
    """Sets and weak order everywhere: of tasks, of what wait() gives back, and of those to be cancelled."""
    log: list[str] = []

    async def work(n: int) -> int:
        try:
            await ctx.step(look, n)
            return await ctx.step(double, n)
        except asyncio.CancelledError:
            log.append(await ctx.step(note, f"cancelled {n}"))
            raise

    background: set[asyncio.Task[int]] = set()
    for n in range(12):
        task = asyncio.create_task(work(n))
        background.add(task)
        task.add_done_callback(background.discard)
    waiting: set[asyncio.Task[int]] = set(background)
    while len(waiting) > 5:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            log.append(await ctx.step(note, f"done {task.result()} of {len(background)}"))
    for task in background:
        task.cancel()
    await asyncio.gather(*background, return_exceptions=True)
    return log


tag: contextvars.ContextVar[str] = contextvars.ContextVar("tag", default="none")


@workflow
async def callbacks(ctx: Context) -> list[str]:
    """Code that runs in callbacks of tasks, futures and the loop, with context variables of its own."""
    log: list[str] = []
    loop = asyncio.get_running_loop()
    finished = loop.create_future()

    async def work(name: str) -> str:
        tag.set(name)
        await ctx.step(look, tag.get())
        return tag.get()

    def done(task: asyncio.Future[str]) -> None:
        log.append(f"{task.result()} seen from {tag.get()}")
        follow_up = asyncio.ensure_future(ctx.step(note, f"{task.result()} {len(log)}"))
        follow_up.add_done_callback(lambda future: log.append(future.result()))
        if len(log) >= 6:
            finished.set_result(None)
        follow_up.add_done_callback(lambda _: finished.done() or len(log) < 6 or finished.set_result(None))

    for name in "abc":
        asyncio.create_task(work(name)).add_done_callback(done)
    tag.set("late")
    loop.call_soon(log.append, await ctx.step(note, "soon"))
    await finished
    return log


@workflow
async def generators(ctx: Context) -> list[Any]:
    """Async generators with steps inside: read to the end, left half-way, closed; and a sync one with a finally."""
    log: list[Any] = []

    async def pages(count: int) -> AsyncGenerator[Any, None]:
        try:
            for n in range(count):
                yield await ctx.step(look, n)
        finally:
            log.append(f"closed {count}")

    def plain() -> Iterator[int]:
        try:
            yield from range(3)
        finally:
            log.append("plain closed")

    async for page in pages(3):
        log.append(page)
    async for page in pages(4):
        log.append(page)
        break
    async with contextlib.aclosing(pages(5)) as some:
        async for page in some:
            log.append(page)
            if page == ["seen", 1]:
                break
    for n in plain():
        log.append(await ctx.step(double, n))
        if n:
            break
    texts = [await ctx.step(note, str(page)) async for page in pages(2)]
    return [*log, *texts]


@workflow
async def left_behind(ctx: Context) -> str:
    """Ends while tasks of its own are at work, one of them on something that must not be left alone."""
    log: list[str] = []

    async def behind(name: str) -> None:
        try:
            while True:
                log.append(await ctx.step(note, name))
                await asyncio.sleep(TICK_S)
        finally:
            await ctx.step(note, f"{name} cleans up")

    tasks = [asyncio.create_task(behind("a")), asyncio.create_task(behind("b"))]
    asyncio.ensure_future(ctx.step(pay, 3))
    ctx.step(book, "unawaited")
    await ctx.step(double, len(tasks))
    return "ended"


@workflow
async def contagion(ctx: Context) -> list[str]:
    """A task that cancels others, itself and its parent's wait; errors that cross."""
    log: list[str] = []

    async def suicidal() -> None:
        task = asyncio.current_task()
        assert task is not None
        await ctx.step(look, 1)
        task.cancel()
        await ctx.step(note, "not reached")

    async def killer(victim: asyncio.Task[Any]) -> None:
        await ctx.step(look, 2)
        victim.cancel()
        await ctx.step(fail, "killer")

    async def victim() -> None:
        try:
            for n in range(5):
                await ctx.step(double, n)
        except asyncio.CancelledError:
            log.append(await ctx.step(note, "struck"))
            raise

    prey = asyncio.create_task(victim())
    ends = await asyncio.gather(asyncio.create_task(suicidal()), prey, killer(prey), return_exceptions=True)
    log += [type(end).__name__ for end in ends]
    try:
        await asyncio.gather(ctx.step(fail, "one"), ctx.step(double, 1), ctx.step(fail, "two"))
    except StepError as error:
        log.append(await ctx.step(note, error.path))
    return log


# --- rude: what clean-up code should not do; only for eviction, which must unwind it all the same ------------------


@workflow
async def acts_in_finally(ctx: Context) -> None:
    """Steps, timers, questions, children and tasks in every clean-up."""

    async def one(n: int) -> None:
        try:
            await ctx.step(look, n)
            await ctx.receive("never")
        finally:
            await ctx.step(pay, n)
            await asyncio.sleep(1)

    async def two() -> None:
        try:
            await ctx.receive("never")
        finally:
            await asyncio.gather(one(7), ctx.step(book, "late"), ctx.shield(one(8)))

    async def three() -> None:
        try:
            await ctx.receive("never")
        finally:
            async with asyncio.TaskGroup() as group:
                group.create_task(one(9))
                group.create_task(two())

    async def four() -> None:
        try:
            await ctx.receive("never")
        except BaseException:
            ctx.compensate(note, "registered in the wreck")
            raise
        finally:
            ctx.patched("in the wreck")

    async def five() -> None:
        try:
            await ctx.receive("never")
        finally:
            async with asyncio.timeout(3):
                await ctx.send(ctx.run_id, "word", 1)

    async def six() -> None:
        try:
            await ctx.receive("never")
        finally:
            tasks = [asyncio.create_task(one(n)) for n in range(3)]
            asyncio.get_running_loop().call_later(1, print, "never")
            await asyncio.wait(tasks)

    await asyncio.gather(one(1), two(), three(), four(), five(), six())


@workflow
async def swallows(ctx: Context) -> str:
    """Catches everything, a dozen times over, in tasks, groups, locks and generators."""
    lock = asyncio.Lock()

    async def dogged(times: int) -> str:
        for n in range(times):
            try:
                async with lock:
                    await ctx.step(look, n)
            except BaseException:  # cadenza: ignore[CDZ013] rude on purpose
                continue
        return "through"

    async def patient(times: int) -> None:
        for _ in range(times):
            try:
                async with asyncio.timeout(1):
                    await ctx.receive("never")
            except BaseException:
                await_nothing = asyncio.sleep(0)
                try:
                    await await_nothing
                except BaseException:
                    continue

    async def stream() -> AsyncIterator[int]:
        for n in range(12):
            try:
                yield len(await ctx.step(look, n))
            except BaseException:
                continue

    async def reading() -> int:
        count = 0
        async for _ in stream():
            count += 1
        return count

    ends = await asyncio.gather(dogged(12), patient(12), reading(), dogged(3), return_exceptions=True)
    return await ctx.step(note, str(len(ends)))


@workflow
async def swallows_for_ever(ctx: Context, kind: str) -> None:
    """Never ends by itself, however often it is told to."""

    async def forever() -> None:
        while True:
            with contextlib.suppress(BaseException):
                await asyncio.sleep(1)

    while True:
        with contextlib.suppress(BaseException):
            match kind:
                case "step":
                    await ctx.step(look, 1)
                case "sleep":
                    await asyncio.sleep(1)
                case "yield":
                    await ctx.receive("never")
                    while True:
                        with contextlib.suppress(BaseException):
                            await asyncio.sleep(0)
                case "receive":
                    await asyncio.gather(ctx.receive("never"), ctx.receive("nor_this"))
                case "group":
                    async with asyncio.TaskGroup() as group:
                        group.create_task(asyncio.sleep(1))
                case _:
                    await ctx.shield(forever())


@workflow
async def rude_endings(ctx: Context, kind: str) -> str:
    """Ends in another way when it is unwound."""
    try:
        await ctx.receive("never")
    except BaseException as error:  # cadenza: ignore[CDZ013] rude on purpose
        match kind:
            case "raises":
                raise ValueError("instead") from None
            case "continues":
                ctx.continue_as_new("again")
            case "exits":
                raise SystemExit(1) from error
            case "cancels":
                raise asyncio.CancelledError from error
    return "as if nothing had happened"
