"""When a worker asks the store for work: at once when there may be some, and not over and over for what it cannot
take."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from cadenza import Context, Engine, EngineOptions, step, workflow
from cadenza.engine.memory import MemoryStore
from cadenza.engine.sqlite.store import SQLiteStore
from cadenza.engine.store import Claim, Create, Store
from tests.conformance.stores import new_run

AT_ONCE_S = 0.5
WATCHED_S = 0.6
gates: dict[int, asyncio.Event] = {}


@step
async def wait_at_gate(number: int) -> int:
    await gates.setdefault(number, asyncio.Event()).wait()
    return number


@workflow(concurrency=1)
async def one_by_one(ctx: Context, number: int) -> int:
    return await ctx.step(wait_at_gate, number)


@workflow
async def nap(ctx: Context, seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


@workflow
async def quick(ctx: Context, number: int) -> int:
    return number


Opened = Callable[[EngineOptions], Any]


@pytest.fixture(params=["memory", "sqlite"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Opened:
    """Opens engines on one store."""
    gates.clear()
    shared = MemoryStore()

    @asynccontextmanager
    async def engine(options: EngineOptions) -> AsyncIterator[Engine]:
        store: Store = shared if request.param == "memory" else SQLiteStore(tmp_path / "store.db")
        async with Engine(store, options) as made:
            yield made
            for gate in gates.values():
                gate.set()

    return engine


async def claims_while(engine: Engine, work: Awaitable[Any]) -> int:
    """How often the engine's worker asks for runs meanwhile."""
    claims = 0
    submit = engine.store.submit

    def counted(operation: Any, done: Any, *, inline: bool = False) -> None:
        nonlocal claims
        claims += isinstance(operation, Claim)
        submit(operation, done, inline=inline)

    engine.store.submit = counted
    await work
    engine.store.submit = submit
    return claims


def test_runs_that_wait_for_a_place_are_asked_for_when_there_is_one(opened: Opened) -> None:
    async def main() -> None:
        async with opened(EngineOptions(adopt_all=True)) as engine:
            handles = [await engine.start(one_by_one, number) for number in range(20)]
            await asyncio.sleep(0.1)
            assert await claims_while(engine, asyncio.sleep(WATCHED_S)) <= 3
            for number, handle in enumerate(handles):
                gates.setdefault(number, asyncio.Event()).set()
                async with asyncio.timeout(AT_ONCE_S + 1):
                    assert await handle.result() == number

    asyncio.run(main())


def test_runs_of_others_are_not_asked_for_until_they_are_ours(opened: Opened) -> None:
    async def main() -> None:
        async with opened(EngineOptions()) as engine:
            for number in range(20):
                engine.store.submit(new(f"other{number}", number), lambda _, error: None)
            mine = await engine.start(one_by_one, 99)
            await asyncio.sleep(0.1)
            assert await claims_while(engine, asyncio.sleep(WATCHED_S)) <= 3
            async with asyncio.timeout(AT_ONCE_S):
                assert await (await engine.resume("other7")).result() == 7
            gates[99].set()
            assert await mine.result() == 99

    asyncio.run(main())


def test_timer_fires_on_time_behind_runs_that_cannot_be_taken(opened: Opened) -> None:
    async def main() -> None:
        async with opened(EngineOptions(adopt_all=True, linger_s=0.0)) as engine:
            blocking = [await engine.start(one_by_one, number) for number in range(3)]
            sleeper = await engine.start(nap, 0.8)
            await asyncio.sleep(0.3)
            assert sleeper.row.status == "waiting"
            async with asyncio.timeout(0.5 + AT_ONCE_S):
                assert await sleeper.result() == 0.8
            assert [handle.row.status for handle in blocking] == ["running", "ready", "ready"]

    asyncio.run(main())


def new(run_id: str, number: int) -> Any:
    return Create(new_run(run_id, workflow=quick.name, input=str(number).encode()))
