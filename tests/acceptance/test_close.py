"""An engine that closes while steps are in flight: nothing may go on beside whoever takes its runs over, unseen."""

import asyncio
import threading
from pathlib import Path

from cadenza import Context, Engine, EngineOptions, NotDone, step, workflow
from cadenza.engine.lease import is_dead

begun = threading.Event()
may_end = threading.Event()
happened: list[str] = []


def not_yet(what: str) -> NotDone:
    return NotDone()


@step(effect="irreversible", reconcile=not_yet)
def slow_payment(what: str) -> str:
    begun.set()
    may_end.wait(20)
    happened.append(what)
    return what


@workflow
async def pays(ctx: Context, what: str) -> str:
    return await ctx.step(slow_payment, what)


@step
async def endless(what: str) -> str:
    try:
        await asyncio.sleep(1_000)
    finally:
        happened.append(f"{what} was stopped")
    return what


@workflow
async def waits(ctx: Context, what: str) -> str:
    return await ctx.step(endless, what)


def test_owner_counts_as_alive_until_its_last_thread_has_ended(tmp_path: Path) -> None:
    for each in (begun, may_end):
        each.clear()
    happened.clear()
    path = tmp_path / "store.db"

    async def main() -> None:
        first, second = Engine.open(path), Engine.open(path, EngineOptions(adopt_all=True))
        await first.__aenter__()
        handle = await first.start(pays, "rent")
        await asyncio.to_thread(begun.wait, 10)
        await first.close(grace_s=0.0)
        locks = first.store.locks  # type: ignore[attr-defined]  # it is a SQLite store
        assert not is_dead(locks, first.owner)
        async with second:
            while not second.tasks(handle.run_id):  # "not done" is not believed: the thread may still do it
                await asyncio.sleep(0.01)
            may_end.set()
            while not is_dead(locks, first.owner):
                await asyncio.sleep(0.01)
            assert happened == ["rent"]

    asyncio.run(asyncio.wait_for(main(), 20))


def test_steps_in_flight_are_stopped_before_their_runs_are_given_up(tmp_path: Path) -> None:
    happened.clear()

    async def main() -> None:
        engine = Engine.open(tmp_path / "store.db")
        await engine.__aenter__()
        handle = await engine.start(waits, "it")
        while not engine.worker or not engine.worker.busy:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        await engine.close(grace_s=0.0)
        assert happened == ["it was stopped"]
        assert is_dead(engine.store.locks, engine.owner)  # type: ignore[attr-defined]  # it is a SQLite store
        async with Engine.open(tmp_path / "store.db", EngineOptions(worker=False)) as reader:
            assert reader.find(handle.run_id).status == "ready"

    asyncio.run(asyncio.wait_for(main(), 20))
