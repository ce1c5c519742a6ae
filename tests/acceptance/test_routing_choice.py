"""Calls by need: who is chosen, that it is journaled once, and what is said where nobody is left."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from cadenza import Context, Engine, EngineOptions, RunFailed, Skill, agent, step, testing, workflow
from cadenza.durable import codec, events
from cadenza.routing.choice import Choice
from cadenza.routing.need import Need
from cadenza.routing.table import need_of, unpack

TRANSLATE = (Skill("rc-translate", "Translate text", ("rc-language",), ("Translate this letter to French",)),)


@agent(name="rc-cheap", skills=TRANSLATE, price_usd=0.001, latency_s=2.0, placement=("us",), data_classes=("public",))
async def cheap(text: str) -> str:
    return f"cheap: {text}"


@agent(name="rc-dear", skills=TRANSLATE, price_usd=0.1, latency_s=0.5, placement=("eu",), data_classes=("restricted",))
async def dear(text: str) -> str:
    return f"dear: {text}"


@agent(name="rc-counts", skills=(Skill("rc-count", "Count the pages of an invoice"),))
async def counts(text: str) -> int:
    return len(text.split())


@step
async def rc_note(text: str) -> str:
    return text


@workflow
async def rc_calls(ctx: Context, asked: dict[str, Any]) -> Any:
    given = asked.get("input", "hello")
    return await ctx.call(need_of({name: value for name, value in asked.items() if name != "input"}), given)


@workflow
async def rc_twice(ctx: Context, prefer: Any) -> list[str]:
    need = Need(skill="rc-translate", prefer=prefer)
    both = await asyncio.gather(ctx.call(need, "a"), ctx.call(need, "b"))
    await ctx.step(rc_note, both[0])
    return list(both)


def called(path: Path, **asked: Any) -> tuple[Any, list[Choice]]:
    """What a run of one call gives, and its tables."""

    async def main() -> tuple[Any, list[Choice]]:
        async with Engine.open(path / "rc.db", EngineOptions(verify_replay=True)) as engine:
            run = await engine.start(rc_calls, asked)
            try:
                value: Any = await run.result()
            except RunFailed as error:
                value = error
            return value, tables(engine.journal(run.run_id))

    return asyncio.run(main())


def tables(journal: Any) -> list[Choice]:
    return [
        unpack(codec.decode(event.value, Any, "a choice"))
        for event in journal
        if isinstance(event, events.StepCompleted) and event.name.endswith(":choose")
    ]


def reasons(table: Choice) -> dict[str, str]:
    return {row.key: row.refused for row in table.rows if row.key.startswith("rc-")}


@pytest.mark.parametrize(("prefer", "who"), [("cheap", "cheap"), ("fast", "dear")])
def test_the_preset_decides_between_price_and_speed(prefer: str, who: str, tmp_path: Path) -> None:
    value, (table,) = called(tmp_path, skill="rc-translate", prefer=prefer)
    assert value == f"{who}: hello"
    assert table.winner == f"rc-{who}@1/"
    assert table.rows[0].key == table.winner
    assert table.rows[0].scores["price"].known == {"price_usd": 0.001 if who == "cheap" else 0.1}
    assert reasons(table)["rc-counts@1/"] == "fit: it has no skill 'rc-translate'"


def test_a_description_finds_the_agent_that_speaks_of_it(tmp_path: Path) -> None:
    _, (table,) = called(tmp_path, description="count the pages of these invoices please")
    assert table.winner == "rc-counts@1/"


def test_placement_and_data_class_are_filters_whatever_the_weights_say(tmp_path: Path) -> None:
    asked = {"skill": "rc-translate", "prefer": "cheap", "weights": {"price": 1e9}}
    value, (table,) = called(tmp_path, **asked, placement=["eu"])
    assert value == "dear: hello"
    assert reasons(table)["rc-cheap@1/"] == "placement: it has us, eu is needed"
    value, (table,) = called(tmp_path, **asked, data_class="restricted")
    assert value == "dear: hello"
    assert reasons(table)["rc-cheap@1/"] == "data class: it may see public, not restricted"


def test_an_input_that_no_candidate_accepts_is_refused_with_the_reason(tmp_path: Path) -> None:
    failed, (table,) = called(tmp_path, skill="rc-translate", input={"not": "text"})
    assert reasons(table)["rc-cheap@1/"] == "schema: the input should be a valid string"
    assert "NoCandidate" in str(failed)
    assert "schema: the input should be a valid string" in str(failed)


def test_where_nobody_is_left_the_error_shows_each_reason(tmp_path: Path) -> None:
    failed, _ = called(tmp_path, skill="rc-translate", placement=["mars"], exclude=["rc-dear@1/"])
    text = str(failed)
    assert "no agent can be chosen for skill 'rc-translate', placement mars" in text
    assert "placement: it has us, mars is needed" in text
    assert "placement: it has eu, mars is needed" in text


def test_a_skill_that_nobody_has_names_the_nearest(tmp_path: Path) -> None:
    async def main() -> str:
        async with Engine.open(tmp_path / "rc.db") as engine:
            run = await engine.start(rc_calls, {"skill": "rc-translat"})
            while not (found := engine.find(run.run_id)).detail:
                await asyncio.sleep(0.01)
            return found.detail

    assert "no skill is named 'rc-translat'. Did you mean 'rc-translate'" in asyncio.run(main())


def test_an_output_that_is_of_no_use_is_refused(tmp_path: Path) -> None:
    _, (table,) = called(tmp_path, tags=["rc-language"], output_schema={"type": "integer"})
    assert reasons(table)["rc-cheap@1/"] == "schema: output may be string, integer is needed"


def test_who_is_not_sure_enough_abstains(tmp_path: Path) -> None:
    failed, (table,) = called(tmp_path, description="zzz qqq", abstain_below=0.4)
    assert table.winner == ""
    assert table.confidence == 0.0
    assert "the best is sure to 0.00, 0.40 is needed" in str(failed)


def test_wherever_it_crashes_a_choice_that_had_an_effect_is_not_made_again() -> None:
    report = testing.crash_everywhere(rc_twice, "balanced")
    assert report.crashes > 10


def test_equal_candidates_are_drawn_by_the_call_and_replay_draws_nothing(tmp_path: Path) -> None:
    async def main() -> set[str]:
        async with Engine.open(tmp_path / "rc.db", EngineOptions(verify_replay=True)) as engine:
            asked = {"skill": "rc-translate", "weights": {"price": 0, "latency": 0, "semantic": 0}}
            runs = [await engine.start(rc_calls, asked) for _ in range(20)]
            return {str(await run.result()) for run in runs}

    assert asyncio.run(main()) == {"cheap: hello", "dear: hello"}
