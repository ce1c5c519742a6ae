"""Random workflows: small programs as plain data, the one workflow that interprets them, and a Hypothesis strategy.

A program is a list: the name of an instruction, then its operands, some of which are programs. Tasks share ``log``, and
what they ask for depends on it, so that any difference in order becomes a difference in commands.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

from hypothesis import strategies as st

from cadenza import ChildError, Context, HumanTask, StepError, workflow
from tests.conformance.shapes.steps import book, decline, double, fail, fumble, look, note, pay, unbook

Program = list[Any]
STEPS = {"look": look, "note": note, "pay": pay, "book": book, "fail": fail, "decline": decline, "fumble": fumble}
LETTERS = ("red", "blue")
CHILDREN_MAX = 2


class Run:
    """One program under interpretation: what its tasks share."""

    def __init__(self, ctx: Context, depth: int) -> None:
        self.ctx, self.depth = ctx, depth
        self.log: list[str] = []
        self.background: list[asyncio.Task[Any]] = []
        self.lock = asyncio.Lock()
        self.queue: asyncio.Queue[str] = asyncio.Queue()

    async def do(self, program: Program) -> Any:
        name, *operands = program
        instruction: Callable[..., Coroutine[Any, Any, Any]] = getattr(self, f"_{name}")
        result = await instruction(*operands)
        self.log.append(name[0])
        return result

    async def _step(self, name: str) -> Any:
        return await self._call(name, f"{len(self.log)}:{''.join(self.log[-5:])}")

    def _call(self, name: str, text: str) -> Awaitable[Any]:
        return self.ctx.step(pay, len(text)) if name == "pay" else self.ctx.step(STEPS[name], text)

    async def _seq(self, *parts: Program) -> None:
        for part in parts:
            await self.do(part)

    async def _loop(self, times: int, part: Program) -> None:
        for _ in range(times):
            await self.do(part)

    async def _gather(self, tolerant: bool, *parts: Program) -> None:
        await asyncio.gather(*(self.do(part) for part in parts), return_exceptions=tolerant)

    async def _calls(self, *names: str) -> None:
        """A gather of calls themselves, without tasks."""
        await asyncio.gather(*(self._call(name, str(place)) for place, name in enumerate(names)))

    async def _group(self, *parts: Program) -> None:
        async with asyncio.TaskGroup() as group:
            for part in parts:
                group.create_task(self.do(part))

    async def _first(self, *parts: Program) -> None:
        tasks = {asyncio.create_task(self.do(part)) for part in parts}
        try:
            done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            self.log.append(str(len(done)))
        finally:
            for task in tasks:
                task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)

    async def _arrivals(self, *parts: Program) -> None:
        tasks = [asyncio.create_task(self.do(part)) for part in parts]
        for nearest in asyncio.as_completed(tasks):
            try:
                await nearest
            except (StepError, ExceptionGroup) as error:
                self.log.append(type(error).__name__)

    async def _spawn(self, part: Program) -> None:
        self.background.append(asyncio.create_task(self.do(part)))

    async def _cancel(self) -> None:
        for task in self.background:
            task.cancel()

    async def _attempt(self, part: Program, handler: Program, final: Program) -> None:
        try:
            await self.do(part)
        except Exception as error:
            self.log.append(type(error).__name__[:2])
            await self.do(handler)
        finally:
            await self.do(final)

    async def _swallow(self, part: Program) -> None:
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await self.do(part)

    async def _shield(self, part: Program) -> None:
        await self.ctx.shield(self.do(part))

    async def _timeout(self, ticks: int, part: Program) -> None:
        try:
            async with asyncio.timeout(ticks / 1_000):
                await self.do(part)
        except TimeoutError:
            self.log.append("late")

    async def _sleep(self, ticks: int) -> None:
        await asyncio.sleep(ticks / 1_000)

    async def _receive(self, name: str) -> None:
        self.log.append(str(await self.ctx.receive(name)))

    async def _send(self, name: str) -> None:
        await self.ctx.send(self.ctx.run_id, name, len(self.log))

    async def _ask(self) -> None:
        answer = await self.ctx.ask(HumanTask("Go on?"))
        self.log.append(answer.by)

    async def _child(self, awaited: bool, part: Program) -> None:
        if self.depth >= CHILDREN_MAX:
            return
        if not awaited:
            self.ctx.start(interpret, {"program": part, "depth": self.depth + 1})
            return
        try:
            self.log += await self.ctx.run(interpret, {"program": part, "depth": self.depth + 1})
        except ChildError as error:
            self.log.append(error.status)

    async def _compensate(self) -> None:
        self.ctx.compensate(unbook, str(len(self.log)))

    async def _patched(self, number: int, new: Program, old: Program) -> None:
        await self.do(new if self.ctx.patched(f"p{number}") else old)

    async def _chance(self) -> None:
        if self.ctx.random.random() < 0.5:
            await self.ctx.step(look, [str(self.ctx.uuid()), self.ctx.now().isoformat()])

    async def _locked(self, part: Program) -> None:
        async with self.lock:
            await self.do(part)

    async def _put(self) -> None:
        self.queue.put_nowait(f"q{len(self.log)}")

    async def _take(self) -> None:
        self.log.append(await self.queue.get())

    async def _stream(self, times: int, leave: bool, part: Program) -> None:
        async def stream() -> AsyncIterator[int]:
            for n in range(times):
                await self.do(part)
                yield n

        async for n in stream():
            self.log.append(str(await self.ctx.step(double, n)))
            if leave:
                break

    async def _again(self) -> None:
        """Continue as new, if this is the workflow's own task and an early generation."""
        task = asyncio.current_task()
        if task is not None and task.get_name() == "root" and self.ctx.generation < 2:
            self.ctx.continue_as_new({"program": ["seq", ["step", "note"]], "depth": self.depth})


@workflow
async def interpret(ctx: Context, given: dict[str, Any]) -> list[str]:
    """Runs the program that is its input; its result is what all tasks have written in the end."""
    run = Run(ctx, given["depth"])
    await run.do(given["program"])
    await ctx.step(note, "".join(run.log))
    return run.log


# --- the strategy -------------------------------------------------------------------------------------------------

ticks = st.integers(0, 4)
leaves = st.one_of(
    st.sampled_from(sorted(STEPS)).map(lambda name: ["step", name]),
    st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=3).map(lambda names: ["calls", *names]),
    ticks.map(lambda n: ["sleep", n]),
    st.sampled_from(LETTERS).map(lambda name: ["receive", name]),
    st.sampled_from(LETTERS).map(lambda name: ["send", name]),
    st.sampled_from(["ask", "compensate", "chance", "put", "take", "cancel", "again"]).map(lambda name: [name]),
)


def _nested(inner: st.SearchStrategy[Program]) -> st.SearchStrategy[Program]:
    few = st.lists(inner, min_size=1, max_size=3)

    def of(name: str, *operands: st.SearchStrategy[Any]) -> st.SearchStrategy[Program]:
        return st.tuples(*operands).map(lambda given: [name, *given])

    return st.one_of(
        few.map(lambda parts: ["seq", *parts]),
        few.map(lambda parts: ["group", *parts]),
        few.map(lambda parts: ["first", *parts]),
        few.map(lambda parts: ["arrivals", *parts]),
        st.tuples(st.booleans(), few).map(lambda given: ["gather", given[0], *given[1]]),
        of("loop", st.integers(1, 3), inner),
        of("attempt", inner, inner, inner),
        of("timeout", ticks, inner),
        of("child", st.booleans(), inner),
        of("patched", st.integers(1, 2), inner, inner),
        of("stream", st.integers(1, 3), st.booleans(), inner),
        *(of(name, inner) for name in ("spawn", "swallow", "shield", "locked")),
    )


programs: st.SearchStrategy[Program] = st.recursive(leaves, _nested, max_leaves=14)
