"""The corpus through the real engine, on both stores: results, and journals that replay to the same commands."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from cadenza import Context, Engine, EngineOptions, RunBlocked, workflow
from cadenza.durable import codec, events
from cadenza.durable.define import find_workflow
from cadenza.durable.machine import Machine
from cadenza.engine.store import Filter, RunRow
from tests.conformance.corpus import SHAPES
from tests.conformance.depth import seeds
from tests.conformance.engine_world import finish, live
from tests.conformance.shape import Shape
from tests.conformance.shapes.steps import Pace, note

OPTIONS = EngineOptions(verify_replay=True, linger_s=0.005, poll_idle_s=0.002, poll_busy_s=0.001)


@pytest.fixture(params=["memory", "sqlite"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return ":memory:" if request.param == "memory" else str(tmp_path / "runs.db")


@pytest.fixture(autouse=True)
def steps_take_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pace, "delay_s_max", 0.003)


@pytest.fixture(autouse=True)
def nothing_is_warned_of(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The engine replays every finished run by itself, and logs an error if the replay differs."""
    with caplog.at_level(logging.WARNING, "cadenza"):
        yield
    assert [record.getMessage() for record in caplog.records] == []


def generations(engine: Engine, row: RunRow) -> list[list[events.AnyEvent]]:
    """The journal of a run, cut where a generation starts."""
    cut: list[list[events.AnyEvent]] = []
    for event in engine.store.events(row.no):
        if isinstance(event, events.RunStarted):
            cut.append([])
        cut[-1].append(event)
    return cut


def check_journals(engine: Engine) -> None:
    """Every journal of the store, of runs and children, replays; and every prefix asks for a prefix of the same."""
    for row in engine.store.runs(Filter(limit=1_000)):
        fn = find_workflow(row.workflow)
        for journal in generations(engine, row):
            whole = Machine(fn, [])
            whole.replay(journal)
            for count in range(1, len(journal)):
                part = Machine(fn, [])
                part.replay(journal[:count])
                made = part.trace or []
                assert made == (whole.trace or [])[: len(made)] or _takes_a_patch_anew(journal, count), row
                part.evict()
            whole.evict()


def _takes_a_patch_anew(journal: list[events.AnyEvent], count: int) -> bool:
    return any(isinstance(event, events.Patched) for event in journal[count:])


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_a_shape_ends_as_it_should_on_the_real_engine(shape: Shape, location: str) -> None:
    async def run() -> None:
        async with Engine.open(location, OPTIONS) as engine:
            rows = await asyncio.gather(*(live(engine, shape, seed) for seed in seeds(2)))
            for row in rows:
                assert row.status == shape.ends, row
                if row.status == "completed":
                    last = engine.journal(row.run_id)[-1]
                    assert isinstance(last, events.RunCompleted)
                    result = codec.decode(last.value, shape.workflow.output_type, "the result")
                    assert shape.good(result), result
            check_journals(engine)

    asyncio.run(run())


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_a_shape_that_is_cancelled_comes_to_an_end_on_the_real_engine(shape: Shape) -> None:
    async def run() -> None:
        async with Engine.open(":memory:", OPTIONS) as engine:
            rows = await asyncio.gather(*(live(engine, shape, seed, cancel=True) for seed in seeds(3)))
            for row in rows:
                assert row.ended, (row, engine.journal(row.run_id)[-3:])
            check_journals(engine)

    asyncio.run(run())


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_a_shape_goes_on_where_a_closed_engine_left_it(shape: Shape, tmp_path: Path) -> None:
    """The engine is closed in the middle, and another goes on: the end is the same."""

    async def begin() -> None:
        async with Engine.open(tmp_path / "runs.db", OPTIONS) as engine:
            await engine.start(shape.workflow, shape.input, id="it")
            for name, value in shape.messages:
                await engine.signal("it", name, value)
            await asyncio.sleep(0.004)

    async def go_on() -> None:
        async with Engine.open(tmp_path / "runs.db", adopting()) as engine:
            row = await finish(engine, "it", shape)
            assert row.status == shape.ends, (row, engine.journal("it")[-3:])
            check_journals(engine)

    asyncio.run(begin())
    asyncio.run(go_on())


def adopting() -> EngineOptions:
    return EngineOptions(verify_replay=True, adopt_all=True, linger_s=0.005, poll_idle_s=0.002, poll_busy_s=0.001)


@workflow
async def deployed(ctx: Context) -> str:
    first = await ctx.step(note, "first")
    await ctx.receive("go")
    return first + await ctx.step(note, "second")


async def changed(ctx: Context) -> str:
    first = await ctx.step(note, "another first")
    await ctx.receive("go")
    return first + await ctx.step(note, "second")


def test_a_changed_workflow_blocks_its_runs_which_keep_their_journal_and_go_on_after_the_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def with_engine(*actions: str) -> list[events.AnyEvent]:
        async with Engine.open(tmp_path / "runs.db", EngineOptions(adopt_all=True)) as engine:
            for action in actions:
                match action:
                    case "start":
                        await (await engine.start(deployed, id="it")).settled()
                    case "go":
                        await engine.signal("it", "go")
                    case "blocked":
                        with pytest.raises(RunBlocked) as caught:
                            await engine.handle("it").result()
                        for text in ("expected: step", "found:", "note#1", "ctx.patched", "cadenza resume"):
                            assert text in str(caught.value)
                    case _:
                        assert await (await engine.resume("it")).result() == "<first><second>"
            return engine.journal("it")

    before = asyncio.run(with_engine("start"))
    with monkeypatch.context() as patch:
        patch.setattr(deployed, "fn", changed)
        after = asyncio.run(with_engine("go", "blocked"))
    assert after == before
    whole = asyncio.run(with_engine("ended"))
    assert whole[: len(before)] == before
