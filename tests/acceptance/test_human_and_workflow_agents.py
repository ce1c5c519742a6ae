"""People and workflows as agents: the same card and the same call as any other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import date
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from cadenza import (
    Answer,
    Context,
    Engine,
    EngineOptions,
    HumanAgent,
    RunFailed,
    as_agent,
    map_reduce,
    workflow,
)
from cadenza.agents.agent import find_agent, is_agent
from cadenza.errors import DefinitionError

PATIENCE_S = 20


class Draft(BaseModel):
    title: str


class Review(BaseModel):
    grade: int
    due: date


reviewer = HumanAgent(
    "reviewer",
    input=Draft,
    output=Review,
    question=lambda draft: f"Review {draft.title!r}",
    assignee="editors",
    description="Reads drafts.",
)
approver = HumanAgent("approver", input=Draft, output=bool, description="Says whether it may be printed.")
sorter = HumanAgent("sorter", output=Literal["news", "sport", 3], question="Which page?")
hasty = HumanAgent("hasty", output=str, deadline_s=0.05)


@workflow
async def asking(ctx: Context, given: dict[str, Any]) -> Any:
    return await ctx.call(given["agent"], given["input"])


@workflow
async def shout(ctx: Context, text: str) -> str:
    """Makes it loud."""
    if text == "fail":
        raise ValueError("too quiet")
    return text.upper()


loud = as_agent(shout, name="loud")


def play(main: Callable[[Engine], Awaitable[None]], location: str | Path = ":memory:") -> None:
    async def opened() -> None:
        options = EngineOptions(linger_s=0.0, verify_replay=True)
        async with Engine.open(location, options) as engine, asyncio.timeout(PATIENCE_S):
            await main(engine)

    asyncio.run(opened())


async def question(engine: Engine, run_id: str) -> Any:
    """The one question that is open."""
    while not (found := engine.tasks(run_id)):
        await asyncio.sleep(0.01)
    ((row, task),) = found
    return row, task


# --- people -----------------------------------------------------------------------------------------------------------


def test_a_person_has_a_card_like_any_agent() -> None:
    for each in (reviewer, approver, sorter, loud):
        assert is_agent(each)
        assert find_agent(each.name) is each
    assert reviewer.card.input_schema == Draft.model_json_schema()
    assert reviewer.card.output_schema is not None
    assert set(reviewer.card.output_schema["properties"]) == {"grade", "due"}
    assert approver.card.output_schema == {"type": "boolean"}


def test_an_answer_that_does_not_fit_is_asked_for_again_with_the_problem() -> None:
    async def main(engine: Engine) -> None:
        handle = await engine.start(asking, {"agent": "reviewer", "input": {"title": "Spring"}})
        row, task = await question(engine, handle.run_id)
        assert (task.title, task.kind, task.assignee) == ("Review 'Spring'", "respond", "editors")
        assert task.details["input"] == {"title": "Spring"}
        assert task.details["answer_schema"]["properties"]["due"]["format"] == "date"
        await engine.answer(handle.run_id, row.path, Answer(value={"grade": "good", "due": "2026-12-01"}))
        while (again := await question(engine, handle.run_id))[0].path == row.path:
            await asyncio.sleep(0.01)
        row, task = again
        assert task.title.startswith("Review 'Spring' (again: grade: Input should be a valid integer")
        assert "grade" in task.details["problem"]
        assert "'good'" in task.details["problem"]
        await engine.answer(handle.run_id, row.path, Answer(value={"grade": 2, "due": "2026-12-01"}))
        assert await handle.result() == {"grade": 2, "due": "2026-12-01"}

    play(main)


@pytest.mark.parametrize(
    ("agent", "kind", "answer", "result"),
    [
        ("approver", "approve", Answer(approved=False), False),
        ("approver", "approve", Answer(approved=True), True),
        ("sorter", "choose", Answer(choice="sport"), "sport"),
        ("sorter", "choose", Answer(choice="3"), 3),
    ],
)
def test_what_is_asked_follows_from_the_output_type(agent: str, kind: str, answer: Answer, result: Any) -> None:
    async def main(engine: Engine) -> None:
        handle = await engine.start(asking, {"agent": agent, "input": {"title": "Spring"}})
        row, task = await question(engine, handle.run_id)
        assert task.kind == kind
        await engine.answer(handle.run_id, row.path, answer)
        assert await handle.result() == result

    play(main)


def test_a_person_who_does_not_answer_in_time_is_not_waited_for() -> None:
    async def main(engine: Engine) -> None:
        handle = await engine.start(asking, {"agent": "hasty", "input": None})
        with pytest.raises(RunFailed, match=r"TimeoutError: hasty has not answered within 0\.05 s"):
            await handle.result()
        assert not engine.tasks(handle.run_id)

    play(main)


def test_the_question_outlives_the_process_that_asked_it(tmp_path: Path) -> None:
    run_ids: list[str] = []

    async def ask(engine: Engine) -> None:
        handle = await engine.start(asking, {"agent": "approver", "input": {"title": "Spring"}})
        await handle.settled()
        run_ids.append(handle.run_id)

    async def answer(engine: Engine) -> None:
        row, _ = await question(engine, run_ids[0])
        await engine.answer(run_ids[0], row.path, Answer(approved=True))
        assert await (await engine.resume(run_ids[0])).result() is True

    play(ask, tmp_path / "people.db")
    play(answer, tmp_path / "people.db")


def test_input_that_does_not_fit_is_refused_before_anybody_is_asked() -> None:
    async def main(engine: Engine) -> None:
        handle = await engine.start(asking, {"agent": "reviewer", "input": {"name": "Spring"}})
        with pytest.raises(RunFailed, match="the input of reviewer does not fit its type"):
            await handle.result()

    play(main)


def test_definitions_that_make_no_sense_are_refused() -> None:
    with pytest.raises(DefinitionError, match="positive number of seconds"):
        HumanAgent("late", deadline_s=0)
    with pytest.raises(DefinitionError, match="'two words' is no name of an agent"):
        HumanAgent("two words")
    with pytest.raises(DefinitionError, match="is not a workflow"):
        as_agent(print)
    with pytest.raises(DefinitionError, match="belongs to"):
        as_agent(asking, name="reviewer")


@workflow
async def approving(ctx: Context, titles: list[str]) -> list[bool]:
    return await map_reduce(ctx, [Draft(title=each) for each in titles], "approver")


def test_a_pattern_takes_people() -> None:
    async def main(engine: Engine) -> None:
        handle = await engine.start(approving, ["Spring", "Summer"])
        while len(found := engine.tasks(handle.run_id)) < 2:
            await asyncio.sleep(0.01)
        for row, task in found:
            answer = Answer(approved=task.details["input"]["title"] == "Summer")
            await engine.answer(handle.run_id, row.path, answer)
        assert await handle.result() == [False, True]

    play(main)


# --- workflows --------------------------------------------------------------------------------------------------------


@workflow
async def loudly(ctx: Context, texts: list[str]) -> list[str]:
    return await map_reduce(ctx, texts, "loud", limit=2)


def test_a_workflow_is_an_agent_and_a_pattern_takes_it() -> None:
    async def main(engine: Engine) -> None:
        assert await (await engine.start(loudly, ["a", "b", "c"])).result() == ["A", "B", "C"]

    play(main)
    assert loud.card.description == "Makes it loud."
    assert loud.card.input_schema == {"type": "string"}
    assert loud.card.output_schema == {"type": "string"}


def test_a_workflow_agent_fails_as_a_child_run_does() -> None:
    async def main(engine: Engine) -> None:
        handle = await engine.start(asking, {"agent": "loud", "input": "fail"})
        with pytest.raises(RunFailed, match=r"ChildError: child run .* failed: ValueError: too quiet"):
            await handle.result()
        handle = await engine.start(asking, {"agent": "loud", "input": 3})
        with pytest.raises(RunFailed, match="the input of shout does not fit its type"):
            await handle.result()

    play(main)
