"""Environments for whole tests: one to work in, and one that runs a workflow and is gone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from cadenza.durable.define import WorkflowFunction
from cadenza.engine.memory import MemoryStore
from cadenza.engine.store import Store
from cadenza.errors import UsageError
from cadenza.testing.environment import Environment

T = TypeVar("T")
START = datetime(2026, 1, 1, tzinfo=UTC)


@asynccontextmanager
async def environment(
    *, start: datetime = START, seed: int = 0, store: str | Path = ":memory:"
) -> AsyncGenerator[Environment]:
    """A world for a test: runs go on in it in milliseconds, whatever they wait for.

    Time is virtual: when nothing else can happen, the clock jumps to the next timer. It is the time of the whole event
    loop, so a step that sleeps for a minute takes none. Real work (threads, sockets) is waited for.

    Args:
        start: what the clock shows first.
        seed: decides the runs' ids, and the jitter of retries.
        store: a SQLite file in place of memory.

    Raises:
        AssertionError: at the end, if a script ran out or a run was not deterministic.
        UsageError: the event loop is not asyncio's own.
    """
    if str(store) == ":memory:":
        made: Store = MemoryStore()
    else:
        from cadenza.engine.sqlite.store import SQLiteStore

        made = SQLiteStore(store)
    env = Environment(made, start, seed)
    with env.time:
        await env.open()
        try:
            yield env
            env.check()
        finally:
            await env.close()


def run_test(
    workflow: WorkflowFunction[..., T],
    input: Any = None,
    *,
    script: dict[Any, Any] | None = None,
    setup: Callable[[Environment], Awaitable[None] | None] | None = None,
    start: datetime = START,
) -> T:
    """Run a workflow to its end in an environment of its own, and return its result.

    Args:
        script: answers by step or agent; see Environment.script.
        setup: called with the environment first.
    """

    async def main() -> T:
        async with environment(start=start) as env:
            await prepare(env, script, setup)
            return await env.run(workflow, input)

    return play(main())


async def prepare(
    env: Environment,
    script: dict[Any, Any] | None,
    setup: Callable[[Environment], Awaitable[None] | None] | None,
) -> None:
    """Give an environment its scripts, and whatever else ``setup`` gives it."""
    for target, answers in (script or {}).items():
        env.script(target, answers)
    if setup is not None and (waiting := setup(env)) is not None:
        await waiting


def play(main: Coroutine[Any, Any, T]) -> T:
    """``asyncio.run``. Raises UsageError where a loop runs already."""
    with contextlib.suppress(RuntimeError):
        asyncio.get_running_loop()
        main.close()
        raise UsageError("an event loop runs here already: use async with environment() as env: await env.run(…)")
    return asyncio.run(main)
