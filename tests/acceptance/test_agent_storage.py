"""What a conversation weighs: each message is in the store once, and the store grows with what is said."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from cadenza import Agent, Answer, Context, Conversation, Engine, EngineOptions, step, tool, workflow
from cadenza.agents import agent as registry
from cadenza.agents.agent import agents
from cadenza.cli.history import read_history
from cadenza.durable import events
from cadenza.durable.define import steps
from cadenza.engine.fork import fork
from cadenza.testing import crash_everywhere

PATIENCE_S = 60


def body(kind: str, number: int) -> str:
    return f"<{kind}-{number}>" + "x" * 700


@pytest.fixture(autouse=True)
def nobody_else() -> Iterator[None]:
    """Every test defines its own agents."""
    tables: list[dict[str, Any]] = [agents, registry._defined, steps]
    before = [dict(each) for each in tables]
    yield
    for table, kept in zip(tables, before, strict=True):
        table.clear()
        table.update(kept)


@tool
def storage_look(number: int) -> str:
    """Look it up."""
    return body("result", number)


@step(effect="read")
def storage_number() -> int:
    return 1


@tool(needs_approval=True)
def storage_pay(text: str) -> str:
    """Pay."""
    return body("receipt", len(text))


def _think(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Two calls, then an answer, and so on."""
    turn, is_answer = divmod(sum(isinstance(each, ModelResponse) for each in messages), 2)
    if is_answer:
        return ModelResponse(parts=[TextPart(body("answer", turn))])
    if "storage_look" in {each.name for each in info.function_tools}:
        numbers = (2 * turn, 2 * turn + 1)
        return ModelResponse(parts=[ToolCallPart("storage_look", {"number": each}, f"c{each}") for each in numbers])
    return ModelResponse(parts=[ToolCallPart("storage_pay", {"text": body("order", turn)}, f"c{turn}")])


@workflow
async def storage_talk(ctx: Context, turns: int) -> int:
    talk = Conversation(ctx, agents["storage_talker"])  # type: ignore[arg-type]
    for number in range(turns):
        assert await talk.say(body("question", number)) == body("answer", number)
    told = str(talk.messages)
    for number in range(turns):
        for kind in ("question", "answer"):
            assert body(kind, number) in told
    assert len(talk.messages) == 4 * turns
    return turns


def talker(**options: Any) -> Agent[str]:
    model = FunctionModel(_think, model_name="scripted")
    return Agent("storage_talker", model=model, instructions=body("instructions", 0), **options)


def stored(path: Path, turns: int) -> bytes:
    """The store's file after a conversation of so many turns, without what SQLite left behind when it moved rows."""

    async def main() -> None:
        async with Engine.open(path, EngineOptions(verify_replay=True)) as engine:
            handle = await engine.start(storage_talk, turns)
            assert await asyncio.wait_for(handle.result(), PATIENCE_S) == turns

    asyncio.run(main())
    compact = path.with_suffix(".compact")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM INTO ?", [str(compact)])
    return compact.read_bytes()


def journaled(path: Path) -> list[events.AnyEvent]:
    async def main() -> list[events.AnyEvent]:
        async with Engine.open(path, EngineOptions(worker=False)) as engine:
            (row,) = engine.runs()
            return engine.journal(row.run_id)

    return asyncio.run(main())


def test_each_message_of_a_conversation_is_stored_once(tmp_path: Path) -> None:
    talker(tools=[storage_look])
    raw = stored(tmp_path / "cadenza.db", 8)
    for number in range(8):
        for kind in ("result", "answer"):
            assert raw.count(f"<{kind}-{number}>".encode()) == 1, (kind, number)
    journal = journaled(tmp_path / "cadenza.db")
    assert sum(b"<instructions-0>" in events.encode_event(each) for each in journal) == 1
    outcomes = [len(each.value) for each in journal if isinstance(each, events.StepCompleted)][1:]
    assert max(outcomes) < 2_000
    assert max(outcomes) - min(outcomes) < 100


def test_a_conversation_costs_as_much_a_turn_however_long_it_is(tmp_path: Path) -> None:
    talker(tools=[storage_look])
    bytes_of: dict[int, int] = {}
    for turns in (5, 10, 20):
        path = tmp_path / f"{turns}.db"
        stored(path, turns)
        bytes_of[turns] = sum(len(events.encode_event(each)) for each in journaled(path))
    first, second = bytes_of[10] - bytes_of[5], bytes_of[20] - bytes_of[10]
    assert second / 10 < 1.03 * first / 5


@workflow
async def storage_order(ctx: Context, text: str) -> str:
    return await ctx.call("storage_talker", text)


def test_a_turn_that_pauses_for_a_person_leaves_its_messages_where_they_are(tmp_path: Path) -> None:
    talker(tools=[storage_pay])
    path = tmp_path / "cadenza.db"

    async def main() -> str:
        async with Engine.open(path, EngineOptions(verify_replay=True, linger_s=0.0)) as engine:
            handle = await engine.start(storage_order, "order it")
            async with asyncio.timeout(PATIENCE_S):
                while not engine.tasks():
                    await asyncio.sleep(0.01)
                ((row, task),) = engine.tasks()
                assert task.value == {"text": body("order", 0)}
        async with Engine.open(path, EngineOptions(verify_replay=True, adopt_all=True)) as engine:
            await engine.answer(row.run_id, row.path, Answer(approved=True))
            result = await asyncio.wait_for(engine.handle(handle.run_id).result(), PATIENCE_S)
            for item in read_history(engine, engine.find(row.run_id)).items():
                if item.path.endswith("storage_talker#1"):
                    assert b"<order-0>" in item.value  # people see it whole
            return result

    assert asyncio.run(main()) == body("answer", 0)
    turns = [
        each.value for each in journaled(path)
        if isinstance(each, events.StepCompleted) and each.name == "agent:storage_talker"
    ]  # fmt: skip
    assert len(turns) == 2
    assert not any(b"<order-0>" in each or b"<receipt" in each or b"<answer-0>" in each for each in turns)


def test_a_conversation_survives_a_crash_at_every_point() -> None:
    talker(tools=[storage_look])
    report = crash_everywhere(storage_talk, 2)
    assert report.crashes > 20
    assert report.in_doubt == 0


def test_a_fork_keeps_a_turn_that_ended_after_the_cut_with_what_it_refers_to(tmp_path: Path) -> None:
    talker(tools=[storage_look])

    @workflow
    async def storage_pair(ctx: Context, text: str) -> list[str]:
        talk = Conversation(ctx, agents["storage_talker"])  # type: ignore[arg-type]
        said = [await talk.say("one")]
        second = asyncio.ensure_future(talk.say("two"))
        number = await ctx.step(storage_number)
        return [*said, await second, await talk.say("three"), str(number)]

    said = [body("answer", number) for number in range(3)]

    async def main() -> None:
        async with Engine.open(tmp_path / "cadenza.db", EngineOptions(verify_replay=True)) as engine:
            handle = await engine.start(storage_pair, "x")
            assert await asyncio.wait_for(handle.result(), PATIENCE_S) == [*said, "1"]
            forked = await fork(engine, handle.run_id, at="storage_number#1", outputs={"storage_number#1": 2})
            assert await asyncio.wait_for(forked.result(), PATIENCE_S) == [*said, "2"]
            journal = engine.journal(forked.run_id)
            cut = next(index for index, each in enumerate(journal) if isinstance(each, events.Forked))
            kept = [each.path for each in journal[:cut] if isinstance(each, events.StepCompleted)]
            assert [path for path in kept if path.endswith("/storage_talker#1")]

    asyncio.run(main())
