"""Queries derive a run's view from its journal, on both stores, and write nothing."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cadenza import Context, Engine, EngineOptions, step, workflow
from cadenza.errors import DefinitionError, Nondeterminism, Stalled, UnknownName, UsageError


@step
async def add(a: int, b: int) -> int:
    return a + b


class State:
    broken = False
    stuck = False


@workflow
async def counting(ctx: Context, rounds: int) -> int:
    total, log = 0, list[str]()
    ctx.view("total", lambda: total)
    ctx.view("log", lambda: {"log": log, "at": ctx.generation})
    try:
        for n in range(rounds):
            total = await ctx.step(add, total, n)
            log.append(await ctx.receive("note", str))
        if State.broken:
            raise DefinitionError("this blocks")
        if log[-1] == "again":
            ctx.continue_as_new(rounds)
    finally:
        total = -total
    return total


@workflow
async def alone(ctx: Context) -> int:
    ctx.view("only", lambda: "here")
    while State.stuck:
        pass
    return await ctx.receive("go", int)


@workflow
async def wrong(ctx: Context) -> int:
    async def asynchronous() -> int:
        return 1

    views: dict[str, Callable[[], Any]] = {
        "acts": lambda: ctx.set_attributes(a=1),
        "waits": asynchronous,
        "steps": lambda: ctx.step(add, 1, 2),
        "raises": lambda: 1 / 0,
        "odd": object,
    }
    for name, view in views.items():
        ctx.view(name, view)
    return await ctx.receive("go", int)


@pytest.fixture(params=["memory", "sqlite"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str | Path:
    return ":memory:" if request.param == "memory" else tmp_path / "s.db"


def test_a_view_is_read_of_waiting_and_ended_runs_without_a_trace(location: str | Path) -> None:
    async def main() -> None:
        async with Engine.open(location) as engine:
            handle = await engine.start(counting, 3)
            assert (await handle.settled()).status == "waiting"
            for n, note in enumerate(["a", "b"]):
                row, journal = handle.row, engine.journal(handle.run_id)
                assert await engine.query(handle.run_id, "total") == [0, 1][n]
                assert await handle.query("log") == {"log": ["a", "b"][:n], "at": 0}
                assert (handle.row, engine.journal(handle.run_id)) == (row, journal)
                await handle.signal("note", note)
                while len(engine.journal(handle.run_id)) <= len(journal) + 1 or handle.row.status != "waiting":
                    await handle.settled()
                    await asyncio.sleep(0)
            await handle.signal("note", "again")
            while handle.row.generation == 0:
                await asyncio.sleep(0)
            await handle.settled()
            assert await handle.query("log") == {"log": [], "at": 1}
            for note in "xyz":
                await handle.signal("note", note)
            assert await handle.result() == -3
            assert await handle.query("total") == -3
            assert await handle.query("log") == {"log": ["x", "y", "z"], "at": 1}

    asyncio.run(main())


def test_a_view_is_read_of_a_blocked_run(location: str | Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with Engine.open(location) as engine:
            other = await engine.start(counting, 1)
            await other.settled()
            monkeypatch.setattr(State, "broken", True)
            await other.signal("note", "x")
            await other.settled()
            assert other.row.status == "blocked"
            assert await other.query("log") == {"log": ["x"], "at": 0}

    asyncio.run(main())


def test_code_that_does_not_fit_the_journal_is_told(location: str | Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with Engine.open(location, EngineOptions(stall_s=0.4)) as engine:
            handle = await engine.start(counting, 1)
            await handle.settled()
            monkeypatch.setattr(counting, "fn", alone.fn)
            with pytest.raises(Nondeterminism):
                await handle.query()
            waiting = await engine.start(alone)
            await waiting.settled()
            monkeypatch.setattr(State, "stuck", True)
            with pytest.raises(Stalled):
                await waiting.query()

    asyncio.run(main())


def test_queries_that_make_no_sense_are_refused(location: str | Path) -> None:
    async def main() -> None:
        async with Engine.open(location) as engine:
            handle = await engine.start(wrong)
            await handle.settled()
            row, journal = handle.row, engine.journal(handle.run_id)
            for name, says in (
                ("", "several: acts, odd"),
                ("acts", "only reads"),
                ("waits", "only reads"),
                ("steps", "only reads"),
                ("raises", "ZeroDivisionError"),
                ("odd", "cannot be journaled"),
            ):
                with pytest.raises(UsageError, match=says):
                    await handle.query(name)
            with pytest.raises(UnknownName, match="raises"):
                await handle.query("raise")
            assert (handle.row, engine.journal(handle.run_id)) == (row, journal)
            other = await engine.start(alone)
            await other.settled()
            assert await other.query() == "here"

    asyncio.run(main())


def test_another_process_reads_the_view_while_the_run_waits(tmp_path: Path) -> None:
    code = """
from cadenza import *
@workflow
async def shop(ctx: Context) -> str:
    ctx.view("basket", lambda: ["tea", "milk"])
    return await ctx.receive("go", str)
"""
    (tmp_path / "shop.py").write_text(code, encoding="utf-8")
    cadenza = [str(Path(sys.executable).with_name("cadenza"))]

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*cadenza, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)

    call("run", "shop.py", "--id", "o")
    assert call("query", "o").stdout.split() == ["[", '"tea",', '"milk"', "]"]
    refused = call("query", "o", "baskets")
    assert refused.returncode == 2
    assert "Did you mean 'basket'" in refused.stderr
