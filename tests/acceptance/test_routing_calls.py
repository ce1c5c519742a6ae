"""What follows a choice: counting how calls went, choosing among instances of one agent, going on where a call never
began, and asking a person what is wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cadenza import (
    Answer,
    Context,
    Engine,
    EngineOptions,
    HumanTask,
    Need,
    RunFailed,
    Skill,
    StepError,
    agent,
    step,
    testing,
    workflow,
)
from cadenza.durable import codec, events
from cadenza.errors import CircuitOpen
from cadenza.routing.choice import Choice
from cadenza.routing.learned import learned_in
from cadenza.routing.registry import registry
from cadenza.routing.table import unpack

SUM = (Skill("rk-sum", "Add numbers"),)
HELP = (Skill("rk-help", "Answer questions about invoices and bills"),)


@agent(name="rk-good", skills=SUM, price_usd=0.02)
async def good(numbers: list[int]) -> int:
    return sum(numbers)


@agent(name="rk-bad", skills=SUM, price_usd=0.01)
async def bad(numbers: list[int]) -> int:
    raise ConnectionError("it is down")


@agent(name="rk-shut", skills=(Skill("rk-open", "Open doors"),), price_usd=0.0, raises=(CircuitOpen,))
async def shut(door: str) -> str:
    raise CircuitOpen("rk-shut@1/", "its breaker is open (9 of its last 10 calls have failed)", 5.0)


@agent(name="rk-ajar", skills=(Skill("rk-open", "Open doors"),), price_usd=5.0)
async def ajar(door: str) -> str:
    return f"opened {door}"


@agent(name="rk-billing", skills=HELP)
async def billing(text: str) -> str:
    return "billing"


@agent(name="rk-echo", skills=(Skill("rk-echo", "Repeat"),))
async def echo(text: str) -> str:
    return text


@step
async def rk_paid(what: str) -> str:
    return what


@workflow
async def rk_sums(ctx: Context, count: int) -> list[Any]:
    found: list[Any] = []
    for number in range(count):
        try:
            found.append(await ctx.call(Need(skill="rk-sum", prefer="quality"), [number, 1]))
        except StepError as error:
            found.append(error.failure.message)
    return found


@workflow
async def rk_door(ctx: Context, door: str) -> str:
    return await ctx.call(Need(skill="rk-open", prefer="cheap", weights={"performance": 0}), door)


@workflow
async def rk_named(ctx: Context, text: str) -> list[str]:
    found = [await ctx.call("rk-echo", f"{text} 1")]
    await ctx.receive("go")
    return [*found, await ctx.call("rk-echo", f"{text} 2")]


@workflow
async def rk_unsure(ctx: Context, text: str) -> str:
    answer = await ctx.call(Need(tags=(), description=text, abstain_below=0.3, on_abstain="ask"), "some text")
    await ctx.step(rk_paid, str(answer))
    return str(answer)


def tables(engine: Engine, run_id: str) -> list[Choice]:
    return [
        unpack(codec.decode(event.value, Any, "a choice"))
        for event in engine.journal(run_id)
        if isinstance(event, events.StepCompleted) and event.name.endswith(":choose")
    ]


def test_failures_are_learned_and_the_failing_agent_loses_its_calls(tmp_path: Path) -> None:
    async def main() -> tuple[list[Any], Any, list[Choice]]:
        async with Engine.open(tmp_path / "rk.db", EngineOptions(verify_replay=True)) as engine:
            run = await engine.start(rk_sums, 40)
            found: list[Any] = list(await run.result())
            performance = learned_in(engine.catalogue).performance
            known = [performance.known(key, "rk-sum", 0) for key in ("rk-good@1/", "rk-bad@1/")]
            return found, known, tables(engine, run.run_id)

    found, (well, ill), choices = asyncio.run(main())
    assert well.seen + ill.seen == 40
    assert well.failures == 0 == ill.successes
    assert ill.seen == found.count("it is down") < 15
    assert well.latency_s is not None
    last = choices[-1].rows[0].scores
    assert last["performance"].known.keys() == {"drawn", "successes", "failures"}
    assert choices[0].rows[0].scores["performance"].value is None


def test_a_call_that_never_began_leads_to_another_choice(tmp_path: Path) -> None:
    async def main() -> tuple[str, list[Choice]]:
        async with Engine.open(tmp_path / "rk.db", EngineOptions(verify_replay=True)) as engine:
            run = await engine.start(rk_door, "the door")
            return str(await run.result()), tables(engine, run.run_id)

    value, (first, second) = asyncio.run(main())
    assert value == "opened the door"
    assert (first.winner, second.winner, second.fallback_of) == ("rk-shut@1/", "rk-ajar@1/", "rk-shut@1/")
    assert {row.key: row.refused for row in second.rows}["rk-shut@1/"] == "exclude: it has been tried"


@pytest.mark.parametrize("flow", [rk_door, rk_sums], ids=["fallback", "observed"])
def test_wherever_it_crashes_each_call_is_chosen_and_counted_as_without(flow: Any) -> None:
    assert testing.crash_everywhere(flow, "the door" if flow is rk_door else 1).crashes >= 8


def test_an_observation_counts_once_however_often_its_step_runs(tmp_path: Path) -> None:
    async def main() -> int:
        async with Engine.open(tmp_path / "rk.db") as engine:
            await (await engine.start(rk_sums, 3)).result()
            learned = learned_in(engine.catalogue)
            row = engine.catalogue.read("SELECT key FROM routing_observed")
            before = len(row)
            from cadenza.routing.learn import Observation

            again = [Observation(key, "rk-good@1/", "rk-sum", True, 1.0, None, 1) for (key,) in row]
            return before + learned.observe(*again)

    assert asyncio.run(main()) == 3


@pytest.fixture
def two_places() -> Iterator[None]:
    for place in ("east", "west"):
        registry.add(echo, instance=place)
    yield
    for place in ("east", "west"):
        registry.remove(f"rk-echo@1/{place}")


async def talk(engine: Engine, run_id: str) -> None:
    while engine.find(run_id).status == "running":
        await asyncio.sleep(0.01)
    await engine.signal(run_id, "go")


def test_an_agent_in_several_places_is_chosen_by_name(two_places: None, tmp_path: Path) -> None:
    async def main() -> tuple[list[str], list[Choice]]:
        async with Engine.open(tmp_path / "rk.db", EngineOptions(verify_replay=True)) as engine:
            run = await engine.start(rk_named, "a")
            await talk(engine, run.run_id)
            return list(await run.result()), tables(engine, run.run_id)

    value, choices = asyncio.run(main())
    assert value == ["a 1", "a 2"]
    assert [each.strategy for each in choices] == ["named/1", "named/1"]
    assert sum(not row.refused for row in choices[0].rows) == 3


def test_a_run_that_began_with_one_instance_replays_where_there_are_several(tmp_path: Path) -> None:
    async def begin() -> str:
        async with Engine.open(tmp_path / "rk.db") as engine:
            run = await engine.start(rk_named, "a")
            while engine.find(run.run_id).status in ("ready", "running"):
                await asyncio.sleep(0.01)
            return run.run_id

    async def go_on(run_id: str) -> tuple[Any, int]:
        async with Engine.open(tmp_path / "rk.db", EngineOptions(verify_replay=True, adopt_all=True)) as engine:
            await engine.signal(run_id, "go")
            return (await engine.ended(run_id)).last, len(tables(engine, run_id))

    run_id = asyncio.run(begin())
    registry.add(echo, instance="east")
    try:
        last, choices = asyncio.run(go_on(run_id))
    finally:
        registry.remove("rk-echo@1/east")
    assert isinstance(last, events.RunCompleted), last
    assert choices == 0


def test_a_run_that_began_with_several_instances_replays_where_one_is_left(tmp_path: Path) -> None:
    async def begin() -> str:
        async with Engine.open(tmp_path / "rk.db") as engine:
            run = await engine.start(rk_named, "a")
            while engine.find(run.run_id).status in ("ready", "running"):
                await asyncio.sleep(0.01)
            return run.run_id

    async def go_on(run_id: str) -> Any:
        async with Engine.open(tmp_path / "rk.db", EngineOptions(verify_replay=True, adopt_all=True)) as engine:
            await engine.signal(run_id, "go")
            return (await engine.ended(run_id)).last

    registry.add(echo, instance="east")
    try:
        run_id = asyncio.run(begin())
    finally:
        registry.remove("rk-echo@1/east")
    last = asyncio.run(go_on(run_id))
    assert isinstance(last, events.RunCompleted), last


def ask_for(reply: str) -> Any:
    def answered(task: HumanTask) -> Answer:
        assert task.title.startswith("What is wanted?")
        return Answer(value=reply)

    return answered


@pytest.mark.parametrize("reply", ["rk-billing", "a question about my invoices and bills"])
def test_who_is_not_sure_asks_a_person_and_chooses_with_the_answer(reply: str, tmp_path: Path) -> None:
    async def main() -> tuple[str, list[Choice]]:
        async with Engine.open(tmp_path / "rk.db", EngineOptions(verify_replay=True)) as engine:
            run = await engine.start(rk_unsure, "zzz invoices qqq xxx yyy www")
            while not (open_now := engine.tasks()):
                await asyncio.sleep(0.01)
            ((row, task),) = open_now
            await engine.answer(run.run_id, row.path, ask_for(reply)(task))
            return str(await run.result()), tables(engine, run.run_id)

    value, (first, second) = asyncio.run(main())
    assert value == "billing"
    assert first.winner == ""
    assert (first.confidence or 0) < 0.3
    assert second.winner == "rk-billing@1/"


def test_a_person_who_never_says_enough_is_asked_three_times(tmp_path: Path) -> None:
    async def main() -> str:
        async with Engine.open(tmp_path / "rk.db") as engine:
            run = await engine.start(rk_unsure, "zzz")
            for _ in range(3):
                while not (open_now := engine.tasks()):
                    await asyncio.sleep(0.01)
                await engine.answer(run.run_id, open_now[0][0].path, Answer(value="qqq"))
                await asyncio.sleep(0.05)
            with pytest.raises(RunFailed) as failed:
                await run.result()
            return str(failed.value)

    assert "Abstained: no agent is chosen" in asyncio.run(main())


def test_wherever_it_crashes_a_question_is_asked_once() -> None:
    report = testing.crash_everywhere(
        rk_unsure, "zzz invoices", answer=ask_for("a question about my invoices and bills")
    )
    assert report.crashes >= 8
