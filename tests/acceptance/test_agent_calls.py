"""Approval that depends on the arguments, and options of one call."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from cadenza import Agent, Answer, Context, Engine, EngineOptions, Retry, RunFailed, tool, workflow
from cadenza.agents import agent as registry
from cadenza.agents.agent import agents
from cadenza.durable import events
from cadenza.durable.define import steps
from cadenza.errors import UnknownName
from cadenza.testing import crash_everywhere

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


class Bank:
    """A tool that needs a person from 100 on; ``asked`` are the amounts of which that was asked."""

    def __init__(self) -> None:
        self.paid: list[int] = []
        self.asked: list[int] = []

        def much(arguments: dict[str, Any]) -> bool:
            self.asked.append(arguments["usd"])
            return arguments["usd"] > 100

        @tool(effect="irreversible", needs_approval=much)
        def agent_calls_pay(usd: int) -> str:
            """Pay."""
            self.paid.append(usd)
            return f"paid {usd}"

        self.pay = agent_calls_pay


def paying(*amounts: int) -> FunctionModel:
    def think(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if any(isinstance(each, ModelResponse) for each in messages):
            return ModelResponse(parts=[TextPart("done")])
        return ModelResponse(
            parts=[ToolCallPart("agent_calls_pay", {"usd": each}, f"c{index}") for index, each in enumerate(amounts)]
        )

    return FunctionModel(think, model_name="scripted")


@workflow
async def agent_calls_ask(ctx: Context, text: str) -> str:
    return await ctx.call("agent_calls_clerk", text)


async def asked_once(engine: Engine) -> Any:
    async with asyncio.timeout(PATIENCE_S):
        while not engine.tasks():
            await asyncio.sleep(0.01)
    ((row, task),) = engine.tasks()
    return row, task


def test_only_calls_that_need_it_are_asked_about() -> None:
    bank = Bank()
    Agent("agent_calls_clerk", model=paying(7, 300), tools=[bank.pay])

    async def main() -> str:
        async with Engine.open(":memory:", EngineOptions(verify_replay=True)) as engine:
            handle = await engine.start(agent_calls_ask, "go")
            row, task = await asked_once(engine)
            assert task.value == {"usd": 300}
            assert bank.paid == [7]
            await engine.answer(row.run_id, row.path, Answer(approved=True, value={"usd": 250}))
            return await asyncio.wait_for(handle.result(), PATIENCE_S)

    assert asyncio.run(main()) == "done"
    assert bank.paid == [7, 250]
    assert sorted(bank.asked) == [7, 300]  # once a call, and not of what a person has edited


def test_what_was_decided_is_kept_over_a_crash(tmp_path: Path) -> None:
    """The second process would decide otherwise, if it was asked."""
    limit = [100]
    begun = asyncio.Event()

    @tool
    async def agent_calls_hang() -> str:
        """Hang, once."""
        if limit[0] == 100:
            begun.set()
            await asyncio.Event().wait()
        return "no more"

    @tool(needs_approval=lambda arguments: arguments["usd"] > limit[0])
    def agent_calls_pay(usd: int) -> str:
        """Pay."""
        return f"paid {usd}"

    def think(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if any(isinstance(each, ModelResponse) for each in messages):
            return ModelResponse(parts=[TextPart("done")])
        calls = [ToolCallPart("agent_calls_pay", {"usd": 300}, "c0"), ToolCallPart("agent_calls_hang", {}, "c1")]
        return ModelResponse(parts=calls)

    Agent("agent_calls_clerk", model=FunctionModel(think), tools=[agent_calls_pay, agent_calls_hang])
    store = tmp_path / "cadenza.db"

    def saved(engine: Engine, run_id: str) -> list[str]:
        return [each.key for each in engine.journal(run_id) if isinstance(each, events.MemoSaved)]

    async def first() -> str:
        async with Engine.open(store) as engine:
            handle = await engine.start(agent_calls_ask, "go")
            async with asyncio.timeout(PATIENCE_S):
                await begun.wait()
                while "approval/1/c0" not in saved(engine, handle.run_id):
                    await asyncio.sleep(0.01)
            await engine.close(grace_s=0.0)
            return handle.run_id

    async def second(run_id: str) -> None:
        async with Engine.open(store, EngineOptions(adopt_all=True, verify_replay=True)) as engine:
            row, task = await asked_once(engine)
            assert task.title == "May agent_calls_clerk call agent_calls_pay?"
            await engine.answer(row.run_id, row.path, Answer(approved=True))
            assert await asyncio.wait_for(engine.handle(run_id).result(), PATIENCE_S) == "done"

    run_id = asyncio.run(first())
    limit[0] = 1_000
    asyncio.run(second(run_id))


def test_a_crash_anywhere_is_survived() -> None:
    bank = Bank()
    Agent("agent_calls_clerk", model=paying(7, 300), tools=[bank.pay])

    def answer(task: Any) -> Answer:
        return Answer(choice="not_done") if task.kind == "resolve" else Answer(approved=True)

    assert crash_everywhere(agent_calls_ask, "go", answer=answer).crashes > 10


def test_a_function_that_fails_is_one_clear_message_and_nothing_is_done() -> None:
    @tool(effect="irreversible", needs_approval=lambda arguments: arguments["eur"] > 1)
    def agent_calls_pay(usd: int) -> str:
        """Pay."""
        raise AssertionError("never")

    Agent("agent_calls_clerk", model=paying(7), tools=[agent_calls_pay])

    async def main() -> None:
        async with Engine.open(":memory:") as engine:
            await asyncio.wait_for((await engine.start(agent_calls_ask, "go")).result(), PATIENCE_S)

    with pytest.raises(RunFailed, match="tool agent_calls_pay: needs_approval failed: KeyError: 'eur'"):
        asyncio.run(main())


def test_options_of_one_call_leave_the_agent_as_it_is() -> None:
    seen: list[tuple[str, Any]] = []

    def named(name: str) -> FunctionModel:
        def think(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
            seen.append((name, dict(info.model_settings or {})))
            if name == "weak" and len(seen) == 2:
                raise OSError("gone for a moment")
            return ModelResponse(parts=[TextPart(name)])

        return FunctionModel(think, model_name=name)

    clerk = Agent("agent_calls_clerk", model=named("own"), settings={"temperature": 0.5, "max_tokens": 9})
    again = Retry(attempts=2, delay_s=0.0)

    @workflow(name="agent_calls_options")
    async def flow(ctx: Context, text: str) -> list[str]:
        other = clerk.options(model=named("weak"), settings={"temperature": 0.0}, retry=again, timeout_s=9)
        return [await ctx.call(clerk, text), await ctx.call(other, text), await ctx.call(clerk, text)]

    async def main() -> list[str]:
        async with Engine.open(":memory:", EngineOptions(verify_replay=True)) as engine:
            return await asyncio.wait_for((await engine.start(flow, "go")).result(), PATIENCE_S)

    assert asyncio.run(main()) == ["own", "weak", "own"]
    own, other = {"temperature": 0.5, "max_tokens": 9}, {"temperature": 0.0, "max_tokens": 9}
    assert seen == [("own", own), ("weak", other), ("weak", other), ("own", own)]
    assert clerk.settings == own
    with pytest.raises(UnknownName):
        clerk.options(tools=[])
