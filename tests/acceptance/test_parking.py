"""Answers and messages that come while a run is being parked wake it: none is slept through."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cadenza import Answer, Context, Engine, EngineOptions, HumanTask, workflow

ROUNDS = 60


@workflow
async def asks_and_listens(ctx: Context, number: int) -> int:
    answer = await ctx.ask(HumanTask(title="go on?"))
    value = await ctx.receive("value", int)
    return number + value if answer.approved else -1


@pytest.mark.parametrize("location", [":memory:", "cadenza.db"])
@pytest.mark.parametrize("linger_s", [0.0, 0.02])
def test_what_arrives_during_parking_wakes_the_run(location: str, linger_s: float, tmp_path: Path) -> None:
    async def one(engine: Engine, number: int) -> None:
        handle = await engine.start(asks_and_listens, number)
        while not (tasks := engine.tasks(handle.run_id)):
            await asyncio.sleep(0)
        await asyncio.sleep(linger_s * number / ROUNDS * 2)  # before, in and after the parking
        await engine.answer(handle.run_id, tasks[0][0].path, Answer(approved=True))
        await asyncio.sleep(linger_s * (ROUNDS - number) / ROUNDS)
        await handle.signal("value", 1_000)
        assert await handle.result() == number + 1_000

    async def main() -> None:
        place = location if location == ":memory:" else tmp_path / location
        async with Engine.open(place, EngineOptions(linger_s=linger_s, poll_idle_s=0.01)) as engine:
            async with asyncio.timeout(60):
                await asyncio.gather(*(one(engine, number) for number in range(ROUNDS)))

    asyncio.run(main())


def test_a_run_that_waits_is_out_of_memory_and_comes_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with Engine.open(tmp_path / "cadenza.db", EngineOptions(linger_s=0.01)) as engine:
            handle = await engine.start(asks_and_listens, 1)
            row = await handle.settled()
            assert row.status == "waiting"
            assert engine.worker is not None
            assert not engine.worker.runners
            await handle.signal("value", 2)
            await engine.answer(handle.run_id, "@ask#1", Answer(approved=True))
            assert await handle.result() == 3

    asyncio.run(main())
