"""A reset is one transaction: the old run or the new one, whatever is killed, and whatever goes on meanwhile."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cadenza import Context, Engine, RunFailed, step, workflow
from cadenza.durable import events
from cadenza.engine.fork import fork
from cadenza.engine.retry import reset
from cadenza.engine.store import Create, NewRun, Replaced, RunRow, perform
from cadenza.errors import Fenced
from tests.acceptance.deploys import engine

CHILD = """
import asyncio, sys
from cadenza import Engine, EngineOptions
from cadenza.engine import failpoint
from cadenza.engine.retry import reset
import tests.acceptance.test_reset

async def main():
    async with Engine.open(sys.argv[1], EngineOptions(worker=False)) as engine:
        failpoint.arm(sys.argv[2])
        await reset(engine, "trip", to="reset_note#2")

asyncio.run(main())
"""


noted: list[str] = []


@step
async def reset_note(text: str) -> str:
    noted.append(text)
    if text in broken:
        raise ValueError(text)
    return text


broken: set[str] = set()


@workflow
async def reset_inner(ctx: Context, name: str) -> str:
    await ctx.step(reset_note, f"{name} begins")
    return await ctx.receive("word", str)


@workflow
async def reset_outer(ctx: Context) -> list[str]:
    first = await ctx.step(reset_note, "a")
    child = ctx.start(reset_inner, "child")
    second = await ctx.step(reset_note, "b")
    return [first, second, await child.result()]


@workflow
async def reset_busy(ctx: Context, rounds: int) -> int:
    for n in range(rounds):
        await ctx.step(reset_note, str(n))
        await asyncio.sleep(0.001)
    return rounds


async def waiting_trip(path: Path) -> str:
    async with engine(path) as running:
        handle = await running.start(reset_outer, id="trip")
        while not all(row.status == "waiting" for row in running.runs()) or len(running.runs()) < 2:
            await asyncio.sleep(0.005)
        return handle.run_id


@pytest.mark.sigkill
@pytest.mark.parametrize(("where", "is_done"), [("before_commit:1", False), ("after_commit:1", True)])
def test_a_reset_that_is_killed_leaves_the_old_run_or_the_new_one(where: str, is_done: bool, tmp_path: Path) -> None:
    path = tmp_path / "trips.db"
    old = asyncio.run(waiting_trip(path))
    killed = subprocess.run([sys.executable, "-c", CHILD, str(path), where], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()

    async def main() -> None:
        async with engine(path) as running:
            rows = running.runs()
            ended = {row.run_id for row in rows if row.ended}
            assert ended == ({each.run_id for each in rows if each.root == old} if is_done else set())
            now = running.find("trip")
            assert (now.run_id != old) == is_done
            assert sum(row.business_id == "trip" for row in rows) == 1
            handle = await running.resume(now.run_id)
            if is_done:
                while len([each for each in running.runs() if each.parent == now.run_id]) < 1:
                    await asyncio.sleep(0.005)
            (child,) = [each for each in running.runs() if each.parent == now.run_id]
            await running.signal(child.run_id, "word", "late")
            assert await handle.result() == ["a", "b", "late"]

    asyncio.run(main())


def test_a_run_that_goes_on_is_reset_where_it_is(tmp_path: Path) -> None:
    async def main() -> None:
        async with engine(tmp_path / "trips.db") as running:
            handle = await running.start(reset_busy, 60, id="busy")
            while len(running.journal(handle.run_id)) < 8:
                await asyncio.sleep(0.005)
            again = await reset(running, "busy", to="reset_note#2")
            before = running.journal(handle.run_id)
            assert await again.result() == 60
            assert running.journal(handle.run_id) == before
            assert isinstance(before[-1], events.RunCancelled)
            assert running.find("busy").run_id == again.run_id
            assert before[1] in running.journal(again.run_id)

    asyncio.run(main())


@pytest.mark.parametrize("place", ["trips.db", ":memory:"])
@pytest.mark.parametrize("late", ["a letter", "an event", "nothing"])
def test_a_run_that_has_gone_on_is_not_replaced(place: str, late: str, tmp_path: Path) -> None:
    async def main() -> None:
        path = Path(":memory:") if place == ":memory:" else tmp_path / place
        async with engine(path, worker=False) as looking:
            handle = await looking.start(reset_outer, id="trip")
            await looking.signal(handle.run_id, "x", 1)
            head, unread = (0, 1) if late == "an event" else (1, 0 if late == "a letter" else 1)
            old = Replaced(handle.row.no, handle.run_id, head, unread, "reset")
            started = events.RunStarted(at=1, run_id="new", workflow=reset_outer.name, input=b"null")
            create = Create(NewRun(started, business_id="trip", on_conflict="replace"), instead_of=(old,))
            if late == "nothing":
                await perform(looking.store, create)
                assert (looking.find("trip").run_id, handle.row.status) == ("new", "cancelled")
                return
            with pytest.raises(Fenced, match="has gone on"):
                await perform(looking.store, create)
            assert [(row.run_id, row.status, row.business_id) for row in looking.runs()] == [
                (handle.run_id, "ready", "trip")
            ]

    asyncio.run(main())


async def settled(running: Engine, count: int) -> None:
    while not (len(running.runs()) == count and all(row.status != "ready" for row in running.runs())) or any(
        row.status == "running" for row in running.runs()
    ):
        await asyncio.sleep(0.005)


def child_of(running: Engine, run_id: str) -> RunRow:
    (child,) = [row for row in running.runs() if row.parent == run_id]
    return child


@pytest.mark.parametrize("how", ["fork", "reset"])
def test_a_child_that_goes_on_beside_the_place_goes_on_in_the_fork_too(how: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with engine(tmp_path / "trips.db", verify_replay=True) as running:
            handle = await running.start(reset_outer)
            await settled(running, 2)
            noted.clear()
            if how == "fork":
                again = await fork(running, handle.run_id, at="reset_note#2")
            else:
                again = await reset(running, handle.run_id, to="reset_note#2")
            await settled(running, 4)
            assert noted == ["b"]  # the child had begun, and does not begin once more
            for each in (handle, again) if how == "fork" else (again,):
                await running.signal(child_of(running, each.run_id).run_id, "word", each.run_id)
                assert await each.result() == ["a", "b", each.run_id]

    asyncio.run(main())


@pytest.mark.parametrize("at", ["reset_note#1", "reset_note#2", "@send:first#1", "@run:reset_receiver#1"])
def test_what_was_sent_to_a_child_comes_once_in_a_fork(at: str, tmp_path: Path) -> None:
    """What the copied journal says was sent, the fork's child has; what was sent later, the fork sends by itself."""

    async def main() -> None:
        async with engine(tmp_path / "trips.db", verify_replay=True) as running:
            handle = await running.start(reset_sender)
            await settled(running, 2)
            forked = await fork(running, handle.run_id, at=at)
            await settled(running, 4)
            for each in (handle, forked):
                child = child_of(running, each.run_id)
                await running.signal(child.run_id, "last", each.run_id)
                assert await each.result() == ["go", each.run_id]
                got = [one.name for one in running.journal(child.run_id) if isinstance(one, events.MessageReceived)]
                assert got == ["first", "last"]

    asyncio.run(main())


def test_a_child_that_has_failed_since_goes_on_from_its_failure_in_a_fork(tmp_path: Path) -> None:
    async def main() -> None:
        async with engine(tmp_path / "trips.db", verify_replay=True) as running:
            broken.add("second")
            handle = await running.start(reset_failing)
            with pytest.raises(RunFailed):
                await handle.result()
            broken.clear()
            noted.clear()
            forked = await fork(running, handle.run_id, at="reset_note#1")
            assert await forked.result() == "second"
            assert sorted(noted) == ["beside", "second"]  # and not "first"

    asyncio.run(main())


@workflow
async def reset_two(ctx: Context) -> str:
    await ctx.step(reset_note, "first")
    return await ctx.step(reset_note, "second")


@workflow
async def reset_failing(ctx: Context) -> str:
    child = ctx.start(reset_two)
    await ctx.step(reset_note, "beside")
    return await child.result()


@workflow
async def reset_receiver(ctx: Context) -> list[str]:
    return [await ctx.receive("first", str), await ctx.receive("last", str)]


@workflow
async def reset_sender(ctx: Context) -> list[str]:
    child = ctx.start(reset_receiver)
    await ctx.step(reset_note, "before")
    await child.send("first", "go")
    await ctx.step(reset_note, "after")
    return await child.result()
