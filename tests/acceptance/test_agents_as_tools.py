"""People, workflows, endpoints and programs as tools of an LLM agent."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from cadenza import (
    Agent,
    Answer,
    Context,
    Conversation,
    Engine,
    EngineOptions,
    HttpAgent,
    HumanAgent,
    ProcessAgent,
    Retry,
    as_agent,
    step,
    tool,
    workflow,
)
from cadenza.agents import agent as registry
from cadenza.agents.agent import agents
from cadenza.durable import events
from cadenza.durable.define import steps
from cadenza.durable.human import HumanTask
from cadenza.testing import crash_everywhere
from tests.acceptance.http_world import Answered, serving

PATIENCE_S = 30


@pytest.fixture(autouse=True)
def nobody_else() -> Iterator[None]:
    """Every test defines its own agents."""
    tables: list[dict[str, Any]] = [agents, registry._defined, steps]
    before = [dict(each) for each in tables]
    yield
    for table, kept in zip(tables, before, strict=True):
        table.clear()
        table.update(kept)


class Order(BaseModel):
    item: str
    count: int = 1


def calls(*wanted: tuple[str, dict[str, Any]]) -> ModelResponse:
    return ModelResponse(parts=[ToolCallPart(name, given, f"c{index}") for index, (name, given) in enumerate(wanted)])


def told(messages: list[ModelMessage]) -> list[Any]:
    """What the tools have answered so far."""
    return [part.content for each in messages for part in each.parts if isinstance(part, ToolReturnPart)]


def thinking(*replies: ModelResponse) -> FunctionModel:
    """Gives these replies; the last one is followed by what the tools have answered."""

    def think(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        turn = sum(isinstance(each, ModelResponse) for each in messages)
        if turn < len(replies):
            return ModelResponse(parts=list(replies[turn].parts))
        return ModelResponse(parts=[TextPart(repr(told(messages)))])

    return FunctionModel(think, model_name="scripted")


@workflow
async def as_tools_ask(ctx: Context, text: str) -> str:
    return await ctx.call("as_tools_boss", text)


@step
def as_tools_double(count: int) -> int:
    return 2 * count


@workflow(name="as_tools_packing")
async def as_tools_packing(ctx: Context, order: Order) -> str:
    """Packs an order."""
    return f"{await ctx.step(as_tools_double, order.count)} of {order.item}"


def played(*answers: Answer, input: str = "go") -> tuple[str, list[HumanTask], list[events.AnyEvent]]:
    """The result, what people were asked, and the journal."""
    asked: list[HumanTask] = []
    done: set[str] = set()

    async def main() -> tuple[str, list[events.AnyEvent]]:
        async with Engine.open(":memory:", EngineOptions(verify_replay=True)) as engine:
            handle = await engine.start(as_tools_ask, input)
            async with asyncio.timeout(PATIENCE_S):
                for answer in answers:
                    while not (found := [each for each in engine.tasks() if each[0].path not in done]):
                        await asyncio.sleep(0.01)
                    asked.append(found[0][1])
                    done.add(found[0][0].path)
                    await engine.answer(found[0][0].run_id, found[0][0].path, answer)
                return await handle.result(), engine.journal(handle.run_id)

    result, journal = asyncio.run(main())
    return result, asked, journal


def test_a_person_is_a_tool_and_the_run_is_parked_until_the_answer() -> None:
    person = HumanAgent("as_tools_painter", output=str, question="Which colour?", assignee="painters")
    Agent("as_tools_boss", model=thinking(calls(("as_tools_painter", {"input": "the wall"}))), tools=[person])
    result, (task,), journal = played(Answer(value="blue"))
    assert result == "['blue']"
    assert (task.title, task.assignee, task.kind) == ("Which colour?", "painters", "respond")
    assert task.details["input"] == "the wall"
    assert sum(isinstance(each, events.StepCompleted) and each.name.endswith("_boss") for each in journal) == 2


def test_a_workflow_is_a_tool_and_its_run_a_child() -> None:
    packer = as_agent(as_tools_packing, name="as_tools_packer")
    boss = Agent(
        "as_tools_boss", model=thinking(calls(("as_tools_packer", {"item": "pen", "count": 3}))), tools=[packer]
    )
    result, _, journal = played()
    assert result == "['6 of pen']"
    assert sum(isinstance(each, events.ChildStarted) for each in journal) == 1
    assert boss.others == {"as_tools_packer": packer}


def test_what_a_callee_fails_with_is_read_by_the_model() -> None:
    @workflow(name="as_tools_broken")
    async def broken(ctx: Context, text: str) -> str:
        raise ValueError("no ink")

    hasty = HumanAgent("as_tools_hasty", output=str, deadline_s=0.02)
    model = thinking(calls(("as_tools_broken", {"input": "x"}), ("as_tools_hasty", {"input": "y"})))
    Agent("as_tools_boss", model=model, tools=[as_agent(broken), hasty])
    result, _, _ = played()
    assert "no ink" in result
    assert "has not answered within 0.02 s" in result


def test_arguments_that_do_not_fit_go_back_to_the_model_at_once() -> None:
    packer = as_agent(as_tools_packing, name="as_tools_packer")
    model = thinking(
        calls(("as_tools_packer", {"item": "pen", "count": "many"})), calls(("as_tools_packer", {"item": "pen"}))
    )
    Agent("as_tools_boss", model=model, tools=[packer])
    result, _, journal = played()
    assert "2 of pen" in result
    assert sum(isinstance(each, events.ChildStarted) for each in journal) == 1


def test_a_sub_agent_may_call_a_person_beside_a_tool_that_needs_approval() -> None:
    paid: list[int] = []

    @tool(effect="irreversible", needs_approval=True)
    def as_tools_pay(amount: int) -> str:
        """Pay."""
        paid.append(amount)
        return f"paid {amount}"

    person = HumanAgent("as_tools_judge", output=bool, question="Is it fair?")
    wanted = calls(("as_tools_judge", {"input": "the price"}), ("as_tools_pay", {"amount": 4}))
    helper = Agent("as_tools_helper", model=thinking(wanted), tools=[person, as_tools_pay])
    Agent("as_tools_boss", model=thinking(calls(("as_tools_helper", {"input": "do it"}))), tools=[helper])
    result, asked, _ = played(Answer(approved=True), Answer(approved=True))
    assert sorted(each.title for each in asked) == ["Is it fair?", "May as_tools_helper call as_tools_pay?"]
    assert paid == [4]
    assert "True" in result
    assert "paid 4" in result


def test_calls_of_people_and_workflows_are_part_of_a_conversation() -> None:
    person = HumanAgent("as_tools_painter", output=str, question="Which colour?")
    boss = Agent("as_tools_boss", model=thinking(calls(("as_tools_painter", {"input": "wall"}))), tools=[person])

    @workflow(name="as_tools_chat")
    async def chat(ctx: Context, text: str) -> list[str]:
        talk = Conversation(ctx, boss)
        return [await talk.say("one"), await talk.say("two")]

    colour = "blue" * 100

    async def main() -> int:
        async with Engine.open(":memory:", EngineOptions(verify_replay=True)) as engine:
            handle = await engine.start(chat, "x")
            async with asyncio.timeout(PATIENCE_S):
                while not engine.tasks():
                    await asyncio.sleep(0.01)
                ((row, _),) = engine.tasks()
                await engine.answer(row.run_id, row.path, Answer(value=colour))
                assert await handle.result() == [repr([colour]), repr([colour])]
            turns = [each.value for each in engine.journal(handle.run_id) if isinstance(each, events.StepCompleted)]
            return sum(each.count(colour.encode()) for each in turns)

    assert asyncio.run(main()) == 0  # it is in the answer, and in what the model said of it


def test_a_crash_anywhere_asks_nobody_twice_and_starts_one_child() -> None:
    person = HumanAgent("as_tools_painter", output=str, question="Which colour?")
    packer = as_agent(as_tools_packing, name="as_tools_packer")
    wanted = calls(("as_tools_painter", {"input": "wall"}), ("as_tools_packer", {"item": "pen"}))
    Agent("as_tools_boss", model=thinking(wanted), tools=[person, packer])
    report = crash_everywhere(as_tools_ask, "go", answer=lambda task: Answer(value="blue"))
    assert report.crashes > 10
    assert report.in_doubt == 0


def test_an_endpoint_is_a_tool_with_its_own_effect_and_retries() -> None:
    with serving() as world:
        world.queue(Answered(503), Answered(body={"price": 3}))
        shop = HttpAgent(
            "as_tools_shop", url=f"{world.url}/{{item}}", method="POST", effect="idempotent", input=Order,
            description="Sells.", retry=Retry(attempts=2, delay_s=0.0),
        )  # fmt: skip
        Agent("as_tools_boss", model=thinking(calls(("as_tools_shop", {"item": "pen"}))), tools=[shop])
        result, _, journal = played()
        assert result == "[{'price': 3}]"
        keys = [each.headers["idempotency-key"] for each in world.asked]
        assert len(keys) == 2
        assert len(set(keys)) == 1
    saved = [(each.key, each.effect) for each in journal if isinstance(each, events.MemoSaved)]
    assert ("tool/1/c0", "idempotent") in saved


def test_what_an_endpoint_refuses_is_read_by_the_model() -> None:
    with serving() as world:
        world.queue(Answered(404, body={"detail": "no such pen"}))
        shop = HttpAgent("as_tools_shop", url=f"{world.url}/pen", description="Sells.")
        Agent("as_tools_boss", model=thinking(calls(("as_tools_shop", {"input": None}))), tools=[shop])
        result, _, _ = played()
        assert "no such pen" in result


def test_a_program_is_a_tool(tmp_path: Path) -> None:
    text = "import json; r = json.loads(input()); print(json.dumps({'id': r['id'], 'output': r['input']['count'] + 1}))"
    (tmp_path / "agent.py").write_text(text)
    counter = ProcessAgent(
        "as_tools_counter", [sys.executable, "agent.py"], folder=str(tmp_path), input=Order, output=int
    )
    Agent("as_tools_boss", model=thinking(calls(("as_tools_counter", {"item": "pen", "count": 6}))), tools=[counter])
    assert played()[0] == "[7]"
