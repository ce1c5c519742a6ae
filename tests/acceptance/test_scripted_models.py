"""Scripted models: LLM agents in tests, through all of Pydantic AI but the network."""

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel

from cadenza import Agent, Answer, Context, RunFailed, testing, tool, workflow
from cadenza.testing import Environment, call, scripted_model


class Report(BaseModel):
    city: str
    degrees: int


seen: list[str] = []


@tool(effect="read")
async def weather(city: str) -> int:
    seen.append(city)
    return 21


@tool
def population(city: str) -> int:
    seen.append(f"people of {city}")
    return 3_000_000


@tool(effect="irreversible", needs_approval=True)
async def publish(city: str) -> str:
    seen.append(f"published {city}")
    return "done"


reporter = Agent(
    "reporter",
    model="openai:gpt-5-nano",
    instructions="Report.",
    tools=[weather, population, publish],
    output=Report,
    stream=True,
)


@workflow
async def reports(ctx: Context, city: str) -> Report:
    return await ctx.call(reporter, f"The weather in {city}?")


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    seen.clear()


def play(work: Any) -> None:
    async def main() -> None:
        async with testing.environment() as env:
            await work(env)

    asyncio.run(main())


def test_an_agents_model_answers_from_a_list_and_its_tools_are_real() -> None:
    async def work(env: Environment) -> None:
        model = env.model(
            "reporter",
            [[call("weather", city="Rome"), call("population", city="Rome")], Report(city="Rome", degrees=21)],
        )
        assert await env.run(reports, "Rome") == Report(city="Rome", degrees=21)
        assert sorted(seen) == ["Rome", "people of Rome"]
        assert (len(model.requests), model.left) == (2, 0)

    play(work)
    assert not reporter.model_objects  # its own model is back


def test_a_whole_turn_may_be_scripted() -> None:
    answers = {"reporter": [Report(city="Oslo", degrees=3)]}
    assert testing.run_test(reports, "Oslo", script=answers) == Report(city="Oslo", degrees=3)


def test_a_crash_between_two_requests_pays_for_nothing_twice_and_answers_stay_in_order() -> None:
    async def work(env: Environment) -> None:
        model = env.model(reporter, [call("publish", city="Rome"), Report(city="Rome", degrees=1)])
        run = await env.start(reports, "Rome")
        assert (await env.asked(run)).title == "May reporter call publish?"
        await env.crash()
        await env.answer(run, Answer(approved=True))
        assert (await run.result()).degrees == 1
        assert seen == ["published Rome"]
        assert len(model.requests) == 2

    play(work)


def test_a_model_that_is_asked_too_often_fails_the_test() -> None:
    async def work(env: Environment) -> None:
        env.model(reporter, [call("weather", city="Rome")])
        await env.run(reports, "Rome")

    with pytest.raises(AssertionError, match=r"scripted model of 'reporter'.*has run out: request 2.*told last: 21"):
        play(work)


def test_a_model_that_calls_a_tool_that_is_not_there_fails_the_test() -> None:
    async def work(env: Environment) -> None:
        env.model(reporter, [call("wether", city="Rome")])
        await env.run(reports, "Rome")

    with pytest.raises(AssertionError, match=r"calls the tool 'wether'; the agent has weather, population, publish"):
        play(work)


def test_a_scripted_model_may_be_given_to_an_agent_directly() -> None:
    poet = Agent("poet_of_tests", model=scripted_model(["roses are red", TimeoutError("too slow")]))

    @workflow
    async def poem(ctx: Context) -> str:
        return await ctx.call(poet, "a poem")

    assert testing.run_test(poem) == "roses are red"
    with pytest.raises(RunFailed, match="too slow"):
        testing.run_test(poem)
