"""Cadenza through its public API: the same no-op steps as everyone, on SQLite and on the in-memory store.

A measurement opens an engine on a fresh file, runs the workload once to warm up, then measures from `engine.start` to
the result: the record of the run itself is inside the time, as it is for the peers.
"""

import asyncio
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cadenza
from benchmarks.side import AT_THE_END, NONE, ON_DISK, Series, cpu_us_async, rate_async, serve
from cadenza import Context, Engine, workflow
from cadenza import step as durable_step


@durable_step
async def noop(i: int) -> dict[str, int]:
    """A step whose outcome is committed before the run goes on (idempotent, the default)."""
    return {"ok": i}


@durable_step(effect="read")
async def look(i: int) -> dict[str, int]:
    """A step that may be repeated freely: its outcome is written behind."""
    return {"ok": i}


@workflow
async def chain(ctx: Context, steps: int) -> int:
    """One durable step after another."""
    for i in range(steps):
        await ctx.step(noop, i)
    return steps


@workflow
async def read_chain(ctx: Context, steps: int) -> int:
    """One `read` step after another."""
    for i in range(steps):
        await ctx.step(look, i)
    return steps


@workflow
async def fan_out(ctx: Context, steps: int) -> int:
    """All steps at once."""
    return len(await asyncio.gather(*[ctx.step(noop, i) for i in range(steps)]))


Workflow = Any  # what @workflow makes; its class is not a public name


async def finish(engine: Engine, flow: Workflow, steps: int) -> None:
    """Start one run and wait for its result."""
    handle = await engine.start(flow, steps)
    assert await handle.result() == steps


def on_disk(flow: Workflow, steps: int, repeats: int, runs: int = 1) -> Callable[[Path], float]:
    """Steps per second on a new SQLite file; the runs of a repeat at the same time."""

    async def measure(folder: Path) -> float:
        async with Engine.open(folder / "cadenza.db") as engine:

            def once(k: int) -> Awaitable[object]:
                return asyncio.gather(*[finish(engine, flow, steps) for _ in range(runs if k else 1)])

            return await rate_async(steps * runs, once, repeats)

    return lambda folder: asyncio.run(measure(folder))


def in_memory(flow: Workflow, steps: int) -> Callable[[Path], float]:
    """Microseconds of processor time a step, with nothing to wait for but the engine itself."""

    async def measure() -> float:
        async with Engine.open(":memory:") as engine:
            return await cpu_us_async(steps, lambda _: finish(engine, flow, steps))

    return lambda _folder: asyncio.run(measure())


if __name__ == "__main__":
    assert cadenza.__file__, "a folder named cadenza shadows the package"
    serve(
        {"cadenza": version("cadenza")},
        [
            Series("W1", "Cadenza", ON_DISK, on_disk(chain, 100, repeats=5)),
            Series("W1p", "Cadenza", AT_THE_END, on_disk(read_chain, 1_000, repeats=5)),
            Series("W2", "Cadenza", AT_THE_END, on_disk(fan_out, 1_000, repeats=5)),
            Series("W3", "Cadenza", ON_DISK, on_disk(chain, 10, repeats=3, runs=500)),
            Series("cpu-chain", "Cadenza", NONE, in_memory(chain, 2_000)),
            Series("cpu-gather", "Cadenza", NONE, in_memory(fan_out, 1_000)),
        ],
    )
