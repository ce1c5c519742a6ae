"""What an LLM agent's call does: people, sub-agents, fallback, tokens out of band, pinned definitions, and bad days."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import ModelRetry
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from cadenza import (
    Agent,
    Answer,
    Context,
    Conversation,
    Engine,
    EngineOptions,
    Live,
    Retry,
    RunBlocked,
    RunFailed,
    agent,
    step,
    tool,
    workflow,
)
from cadenza.agents import agent as registry
from cadenza.agents.agent import agents
from cadenza.agents.tools import Tool
from cadenza.agents.usage import Usage, price_of
from cadenza.cli.history import read_history
from cadenza.cli.history_json import history_json
from cadenza.cli.show import facts
from cadenza.durable import codec, events
from cadenza.durable.define import WorkflowFunction, steps
from cadenza.engine.store import RunRow
from cadenza.errors import InputInvalid

PATIENCE_S = 20
Think = Callable[[list[ModelMessage]], ModelResponse]


def scripted(*replies: ModelResponse | Exception) -> FunctionModel:
    """A model whose n-th answer in a conversation is the n-th reply; ``asked`` are the conversations it was given."""
    asked: list[list[ModelMessage]] = []

    def think(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        asked.append(list(messages))
        reply = replies[sum(isinstance(each, ModelResponse) for each in messages)]
        if isinstance(reply, Exception):
            raise reply
        return ModelResponse(parts=list(reply.parts))

    model = FunctionModel(think, model_name="scripted")
    model.asked = asked  # type: ignore[attr-defined]
    return model


def says(text: str) -> ModelResponse:
    return ModelResponse(parts=[TextPart(text)])


def calls(*wanted: tuple[str, dict[str, Any]]) -> ModelResponse:
    parts = [ToolCallPart(name, arguments, f"c{index}") for index, (name, arguments) in enumerate(wanted)]
    return ModelResponse(parts=parts)


@pytest.fixture(autouse=True)
def nobody_else() -> Iterator[None]:
    """Every test defines its own agents, under names that another may use."""
    tables: list[dict[str, Any]] = [agents, registry._defined, steps]
    before = [dict(each) for each in tables]
    yield
    for table, kept in zip(tables, before, strict=True):
        table.clear()
        table.update(kept)


@workflow
async def ask_writer(ctx: Context, text: str) -> Any:
    return await ctx.call("writer", text)


@contextlib.asynccontextmanager
async def running(flow: WorkflowFunction[..., Any] = ask_writer, input: Any = "hello") -> AsyncIterator[Any]:
    async with Engine.open(":memory:", EngineOptions(verify_replay=True)) as engine:
        yield engine, await engine.start(flow, input)


def result_of(flow: WorkflowFunction[..., Any] = ask_writer, input: Any = "hello") -> Any:
    async def main() -> Any:
        async with running(flow, input) as (_, handle):
            return await asyncio.wait_for(handle.result(), PATIENCE_S)

    return asyncio.run(main())


def failure_of(flow: WorkflowFunction[..., Any] = ask_writer) -> str:
    with pytest.raises(RunFailed) as caught:
        result_of(flow)
    return str(caught.value)


async def question(engine: Engine, after: str = "") -> tuple[Any, Any]:
    """The first open task that is not the one at ``after``, once the run is parked."""

    def found() -> list[tuple[Any, Any]]:
        return [each for each in engine.tasks() if each[0].path != after]

    parked = asyncio.Event()
    stop = engine.observe(lambda live: parked.set() if live.state in ("parked", "completed", "failed") else None)
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not found():
                await parked.wait()
                parked.clear()
    finally:
        stop()
    return found()[0]


def turns_of(engine: Engine, handle: Any, name: str = "writer") -> list[dict[str, Any]]:
    return [
        codec.decode(event.value, Any, "a turn")
        for event in engine.journal(handle.run_id)
        if isinstance(event, events.StepCompleted) and event.name == f"agent:{name}"
    ]


# --- output and input -------------------------------------------------------------------------------------------------


class Article(BaseModel):
    title: str
    words: int


def test_output_that_does_not_fit_is_mended_by_the_model() -> None:
    model = scripted(calls(("final_result", {"title": "x"})), calls(("final_result", {"title": "x", "words": 3})))
    Agent("writer", model=model, output=Article)

    @workflow
    async def flow(ctx: Context, text: str) -> Article:
        article = await ctx.call("writer", text)
        assert isinstance(article, Article)
        return article

    assert result_of(flow) == Article(title="x", words=3)


def test_output_that_never_fits_is_one_clear_message() -> None:
    Agent("writer", model=scripted(*[calls(("final_result", {"title": "x"}))] * 4), output=Article)
    message = failure_of()
    assert "agent 'writer', its output: the answer does not fit the output type" in message
    assert "words" in message


def test_input_that_does_not_fit_is_refused_before_anything_runs() -> None:
    writer = Agent("writer", model=scripted(says("never")), input=Article)

    @workflow
    async def flow(ctx: Context, text: str) -> str:
        with pytest.raises(InputInvalid):
            ctx.call(writer, {"title": 3})
        return "refused"

    assert result_of(flow) == "refused"


def test_structured_input_is_given_as_json() -> None:
    model = scripted(says("ok"))
    writer = Agent("writer", model=model, input=Article)

    @workflow
    async def flow(ctx: Context, text: str) -> str:
        return await ctx.call(writer, Article(title="x", words=3))

    assert result_of(flow) == "ok"
    assert model.asked[0][0].parts[0].content == '{"title":"x","words":3}'  # type: ignore[attr-defined]


# --- people -----------------------------------------------------------------------------------------------------------


class Bank:
    """An irreversible tool that needs a person."""

    def __init__(self) -> None:
        self.paid: list[int] = []

        @tool(effect="irreversible", needs_approval=True, assignee="accounting")
        def pay(amount: int) -> str:
            """Pay an amount."""
            self.paid.append(amount)
            return f"paid {amount}"

        self.pay: Tool[..., Any] = pay


def answered(bank: Bank, *answers: Answer) -> tuple[str, list[Any]]:
    """The run's result, and the tasks that were asked, if people answer so."""
    asked: list[Any] = []

    async def main() -> str:
        async with running() as (engine, handle):
            last = ""
            for answer in answers:
                row, task = await question(engine, after=last)
                asked.append(task)
                last = row.path
                assert handle_row(engine, handle).status == "waiting"
                assert not bank.paid
                await engine.answer(row.run_id, row.path, answer)
            return await asyncio.wait_for(handle.result(), PATIENCE_S)

    return asyncio.run(main()), asked


def handle_row(engine: Engine, handle: Any) -> RunRow:
    return engine.find(handle.run_id)


def test_an_approved_call_runs_once_with_its_arguments() -> None:
    bank = Bank()
    model = scripted(calls(("pay", {"amount": 7})), says("done"))
    Agent("writer", model=model, tools=[bank.pay])
    result, asked = answered(bank, Answer(approved=True))
    assert (result, bank.paid) == ("done", [7])
    assert asked[0].title == "May writer call pay?"
    assert asked[0].details == {"agent": "writer", "tool": "pay", "arguments": {"amount": 7}}
    assert asked[0].assignee == "accounting"
    assert len(model.asked) == 2  # type: ignore[attr-defined]


def test_an_edited_call_runs_with_exactly_the_edited_arguments() -> None:
    bank = Bank()
    Agent("writer", model=scripted(calls(("pay", {"amount": 7})), says("done")), tools=[bank.pay])
    result, _ = answered(bank, Answer(approved=True, value={"amount": 5}))
    assert (result, bank.paid) == ("done", [5])


def test_edited_arguments_that_do_not_fit_are_asked_again_and_nothing_runs() -> None:
    bank = Bank()
    Agent("writer", model=scripted(calls(("pay", {"amount": 7})), says("done")), tools=[bank.pay])
    result, asked = answered(
        bank, Answer(approved=True, value={"amount": "much"}), Answer(approved=True, value={"amount": 6})
    )
    assert (result, bank.paid) == ("done", [6])
    assert "the arguments do not fit pay: amount" in asked[1].details["problem"]


def test_a_rejected_call_does_not_run_and_the_model_reads_why() -> None:
    bank = Bank()
    model = scripted(calls(("pay", {"amount": 7})), says("then not"))
    Agent("writer", model=model, tools=[bank.pay])
    result, _ = answered(bank, Answer(approved=False, comment="too much"))
    assert (result, bank.paid) == ("then not", [])
    assert "too much" in str(model.asked[1][-1])  # type: ignore[attr-defined]


def test_several_calls_of_one_answer_are_asked_side_by_side() -> None:
    bank = Bank()
    Agent("writer", model=scripted(calls(("pay", {"amount": 1}), ("pay", {"amount": 2})), says("done")),
          tools=[bank.pay])  # fmt: skip

    async def main() -> str:
        async with running() as (engine, handle):
            await question(engine)
            assert len(engine.tasks()) == 2
            for row, task in engine.tasks():
                await engine.answer(row.run_id, row.path, Answer(approved=task.value["amount"] == 2))
            return await asyncio.wait_for(handle.result(), PATIENCE_S)

    assert asyncio.run(main()) == "done"
    assert bank.paid == [2]


# --- conversations ----------------------------------------------------------------------------------------------------


def test_a_conversation_is_remembered_and_each_outcome_holds_what_was_new() -> None:
    bank = Bank()
    model = scripted(says("hello ann"), calls(("pay", {"amount": 1})), says("paid"), says("ann"))
    writer = Agent("writer", model=model, tools=[bank.pay])

    @workflow
    async def flow(ctx: Context, text: str) -> list[str]:
        talk = Conversation(ctx, writer)
        answers = [await talk.say(each) for each in ("i am ann", "pay 1", "who am i?")]
        assert len(talk.messages) == 8
        return answers

    async def main() -> list[int]:
        async with running(flow) as (engine, handle):
            row, _ = await question(engine)
            await engine.answer(row.run_id, row.path, Answer(approved=True))
            assert await asyncio.wait_for(handle.result(), PATIENCE_S) == ["hello ann", "paid", "ann"]
            return [len(each["paused"]["messages"]) for each in turns_of(engine, handle)]

    assert asyncio.run(main()) == [2, 2, 2, 2]
    assert [len(each) for each in model.asked] == [1, 3, 5, 7]  # type: ignore[attr-defined]


# --- sub-agents -------------------------------------------------------------------------------------------------------


def test_a_sub_agent_is_a_tool_and_its_usage_is_counted() -> None:
    helper = Agent("helper", model=scripted(says("42")), description="Knows numbers.")
    Agent("writer", model=scripted(calls(("helper", {"input": "how many?"})), says("it is 42")), tools=[helper])

    async def main() -> list[dict[str, Any]]:
        async with running() as (engine, handle):
            assert await asyncio.wait_for(handle.result(), PATIENCE_S) == "it is 42"
            keys = [each.key for each in engine.journal(handle.run_id) if isinstance(each, events.MemoSaved)]
            assert keys == ["request/1", "tool/1/c0/request/1", "request/2"]
            return turns_of(engine, handle)

    (turn,) = asyncio.run(main())
    assert [(each["agent"], each["requests"]) for each in turn["usage"]] == [("writer", 2), ("helper", 1)]
    assert all(each["price_usd"] is None for each in turn["usage"])


def test_a_sub_agent_may_have_a_person_asked() -> None:
    bank = Bank()
    model = scripted(calls(("pay", {"amount": 7})), says("paid"))
    helper = Agent("helper", model=model, tools=[bank.pay])
    outer = scripted(calls(("helper", {"input": "pay it"})), says("all is paid"))
    Agent("writer", model=outer, tools=[helper])
    result, asked = answered(bank, Answer(approved=True, value={"amount": 3}))
    assert (result, bank.paid) == ("all is paid", [3])
    assert asked[0].details["agent"] == "helper"
    assert (len(model.asked), len(outer.asked)) == (2, 2)  # type: ignore[attr-defined]


def test_a_sub_agent_below_a_sub_agent_may_have_people_asked_again_and_again() -> None:
    bank = Bank()
    lowest = scripted(calls(("pay", {"amount": 1})), calls(("pay", {"amount": 2})), says("both"))
    low = Agent("low", model=lowest, tools=[bank.pay])
    middle = scripted(calls(("low", {"input": "a"}), ("low", {"input": "b"})), says("twice"))
    mid = Agent("mid", model=middle, tools=[low])
    outer = scripted(calls(("mid", {"input": "x"}), ("pay", {"amount": 3})), says("all"))
    Agent("writer", model=outer, tools=[mid, bank.pay])

    async def main() -> str:
        asked: set[str] = set()
        async with running() as (engine, handle):
            ended = asyncio.ensure_future(handle.result())
            while not ended.done():
                for row, task in engine.tasks():
                    if row.path not in asked:
                        asked.add(row.path)
                        await engine.answer(row.run_id, row.path, Answer(approved=True, value=task.value))
                await asyncio.sleep(0)
            return await ended

    assert asyncio.run(asyncio.wait_for(main(), PATIENCE_S)) == "all"
    assert sorted(bank.paid) == [1, 1, 2, 2, 3]
    assert [len(each.asked) for each in (lowest, middle, outer)] == [6, 2, 2]  # type: ignore[attr-defined]


# --- models -----------------------------------------------------------------------------------------------------------


def test_the_next_model_is_asked_when_one_fails_and_both_are_recorded() -> None:
    first = scripted(ModelHTTPError(503, "first", {"message": "overloaded"}))
    second = FunctionModel(lambda messages, info: says("from the second"), model_name="second")
    Agent("writer", model=[first, second])

    async def main() -> dict[str, Any]:
        async with running() as (engine, handle):
            assert await asyncio.wait_for(handle.result(), PATIENCE_S) == "from the second"
            (memo,) = [each for each in engine.journal(handle.run_id) if isinstance(each, events.MemoSaved)]
            return codec.decode(memo.value, Any, "a request")["response"]

    response = asyncio.run(main())
    assert response["model_name"] == "second"
    assert "overloaded" in response["failed_attempts"][0]["error"]


def test_a_repeated_turn_pays_for_nothing_that_was_answered() -> None:
    asked: list[int] = []

    def think(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        asked.append(len(messages))
        if len(messages) == 1:
            return calls(("count", {"word": "x"}))
        if len(asked) == 2:
            raise ModelHTTPError(503, "m", {"message": "overloaded"})
        return says("done")

    def count(word: str) -> int:
        """Count."""
        return len(word)

    Agent("writer", model=FunctionModel(think), tools=[count], retry=Retry(attempts=3, delay_s=0.0))
    assert result_of() == "done"
    assert asked == [1, 3, 3]


def test_if_every_model_fails_the_message_names_each() -> None:
    broken = [
        FunctionModel(lambda messages, info, s=status: broke(s), model_name=f"m{status}") for status in (503, 500)
    ]

    def broke(status: int) -> ModelResponse:
        raise ModelHTTPError(status, "m", {"message": f"no {status}"})

    Agent("writer", model=broken)
    message = failure_of()
    assert "every model failed: HTTP 503: no 503; HTTP 500: no 500" in message


def test_tokens_are_told_while_they_come_and_nested_ones_too() -> None:
    async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
        if info.function_tools and len(messages) == 1:
            yield {0: DeltaToolCall("helper", '{"input": "x"}', tool_call_id="h")}
        else:
            yield "one "
            yield "two"

    helper = Agent("helper", model=FunctionModel(stream_function=stream), stream=True)
    Agent("writer", model=FunctionModel(stream_function=stream), tools=[helper], stream=True)
    told: list[tuple[str, str]] = []

    def note(live: Live) -> None:
        if live.state == "progress":
            told.append((live.detail["agent"], live.detail["text"]))

    async def main() -> str:
        async with Engine.open(":memory:") as engine:
            engine.observe(note)
            handle = await engine.start(ask_writer, "hello")
            return await asyncio.wait_for(handle.result(), PATIENCE_S)

    assert asyncio.run(main()) == "one two"
    assert told == [("helper", "one "), ("helper", "two"), ("writer", "one "), ("writer", "two")]


# --- pinned -----------------------------------------------------------------------------------------------------------


def test_a_run_keeps_the_instructions_it_began_with_over_an_upgrade(tmp_path: Path) -> None:
    bank = Bank()

    def define(instructions: str) -> FunctionModel:
        model = scripted(calls(("pay", {"amount": 7})), says("done"))
        Agent("writer", model=model, instructions=instructions, tools=[bank.pay], defined_in="here")
        return model

    async def main(store: Path) -> list[str | None]:
        define("old")
        async with Engine.open(store, EngineOptions(adopt_all=True)) as engine:
            handle = await engine.start(twice, "hello")
            row, _ = await question(engine)
        upgraded = define("new")
        async with Engine.open(store, EngineOptions(adopt_all=True)) as engine:
            await engine.answer(row.run_id, row.path, Answer(approved=True))
            second, _ = await question(engine, after=row.path)
            await engine.answer(row.run_id, second.path, Answer(approved=False))
            assert await asyncio.wait_for(engine.handle(handle.run_id).result(), PATIENCE_S) == ["done", "done"]
        return [each[-1].instructions for each in upgraded.asked]  # type: ignore[attr-defined]

    @workflow
    async def twice(ctx: Context, text: str) -> list[str]:
        return [await ctx.call("writer", text), await ctx.call("writer", text)]

    assert asyncio.run(main(tmp_path / "cadenza.db")) == ["old", "old", "old"]


def test_a_turn_that_would_ask_something_else_than_before_blocks_and_pays_for_nothing_twice(tmp_path: Path) -> None:
    asked: list[str] = []
    second = asyncio.Event()

    def define(preface: str, *, hangs: bool = False) -> None:
        async def think(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
            asked.append(preface)
            if len(messages) == 1:
                return calls(("count", {"word": "x"}))
            if hangs:
                second.set()
                await asyncio.Event().wait()
            return says("done")

        class Prefaced(Agent[str]):
            def prompt(self, input: Any) -> str:
                return f"{preface}: {input}"

        Prefaced("writer", model=FunctionModel(think, model_name="m"), tools=[count], defined_in="here")

    def count(word: str) -> int:
        """Count."""
        return len(word)

    async def main() -> None:
        store, adopting = tmp_path / "cadenza.db", EngineOptions(adopt_all=True)
        define("old", hangs=True)
        async with Engine.open(store) as engine:
            handle = await engine.start(ask_writer, "hello")
            await asyncio.wait_for(second.wait(), PATIENCE_S)
        define("new")
        async with Engine.open(store, adopting) as engine:
            with pytest.raises(RunBlocked, match="request/1"):
                await asyncio.wait_for(engine.handle(handle.run_id).result(), PATIENCE_S)
        define("old")
        async with Engine.open(store, adopting) as engine:
            await engine.resume(handle.run_id)
            assert await asyncio.wait_for(engine.handle(handle.run_id).result(), PATIENCE_S) == "done"

    asyncio.run(main())
    assert asked == ["old", "old", "old"]


def test_steps_and_function_agents_are_tools_with_their_effects() -> None:
    @step(effect="read")
    async def look(word: str) -> int:
        """Look."""
        return len(word)

    @agent
    async def juror(word: str) -> str:
        """Judge."""
        return f"{word} is fine"

    Agent("writer", model=scripted(calls(("look", {"word": "x"}), ("juror", {"word": "y"})), says("done")),
          tools=[look, juror])  # fmt: skip

    async def main() -> dict[str, str]:
        async with running() as (engine, handle):
            assert await asyncio.wait_for(handle.result(), PATIENCE_S) == "done"
            return {
                each.key: each.effect for each in engine.journal(handle.run_id) if isinstance(each, events.MemoSaved)
            }

    effects = asyncio.run(main())
    assert (effects["tool/1/c0"], effects["tool/1/c1"]) == ("read", "idempotent")


# --- tools on bad days ------------------------------------------------------------------------------------------------


def test_what_a_tool_declares_goes_back_to_the_model() -> None:
    @tool(raises=(KeyError,))
    def look_up(name: str) -> str:
        """Look up."""
        if name == "x":
            raise KeyError(name)
        return name

    model = scripted(calls(("look_up", {"name": "x"})), calls(("look_up", {"name": "y"})), says("found"))
    Agent("writer", model=model, tools=[look_up])
    assert result_of() == "found"
    assert "KeyError: 'x'" in str(model.asked[1][-1])  # type: ignore[attr-defined]


def test_a_tool_may_ask_the_model_to_try_again() -> None:
    def look_up(name: str) -> str:
        """Look up."""
        if name == "x":
            raise ModelRetry("not x")
        return name

    model = scripted(calls(("look_up", {"name": "x"})), calls(("look_up", {"name": "y"})), says("found"))
    Agent("writer", model=model, tools=[look_up])
    assert result_of() == "found"
    assert "not x" in str(model.asked[1][-1])  # type: ignore[attr-defined]


def test_what_a_tool_does_not_declare_fails_the_step_and_says_which_tool() -> None:
    def look_up(name: str) -> str:
        """Look up."""
        raise ValueError("the index is gone")

    Agent("writer", model=scripted(calls(("look_up", {"name": "x"}))), tools=[look_up])
    assert "agent 'writer', tool look_up: ValueError: the index is gone. To let the model read it" in failure_of()


def test_an_async_tool_that_hangs_is_stopped_and_the_model_is_told() -> None:
    @tool(timeout_s=0.05)
    async def hang() -> str:
        """Hang."""
        await asyncio.Event().wait()
        return "never"

    model = scripted(calls(("hang", {})), says("then not"))
    Agent("writer", model=model, tools=[hang])
    assert result_of() == "then not"
    assert "took longer than 0.05 s" in str(model.asked[1][-1])  # type: ignore[attr-defined]


def test_a_sync_tool_that_hangs_fails_the_step_and_is_not_tried_again() -> None:
    begun, release = [], threading.Event()

    @tool(timeout_s=0.05)
    def hang() -> str:
        """Hang."""
        begun.append(1)
        release.wait(PATIENCE_S)
        return "never"

    Agent("writer", model=scripted(calls(("hang", {}))), tools=[hang])
    message = failure_of()
    release.set()
    assert "tool hang: took longer than 0.05 s. Its thread cannot be stopped" in message
    assert begun == [1]


def test_a_result_of_50_megabytes_is_refused_with_its_size() -> None:
    ran = []

    def fetch() -> str:
        """Fetch."""
        ran.append(1)
        return "x" * 50_000_000

    Agent("writer", model=scripted(calls(("fetch", {}))), tools=[fetch])
    assert "agent 'writer', tool fetch: its result is 50,000,002 bytes; at most 4,000,000 are kept" in failure_of()
    assert ran == [1]


def test_each_call_of_a_tool_has_a_key_of_its_own_and_memos() -> None:
    keys: list[str] = []

    @tool
    async def act(n: int) -> int:
        """Act."""
        keys.append(step.key())
        return await step.memo("half", lambda: n // 2)

    Agent("writer", model=scripted(calls(("act", {"n": 4}), ("act", {"n": 6})), says("done")), tools=[act])
    assert result_of() == "done"
    assert [key.partition("writer#1")[2] for key in sorted(keys)] == ["/tool/1/c0", "/tool/1/c1"]


def test_a_model_that_goes_in_circles_is_stopped() -> None:
    def again() -> str:
        """Again."""
        return "again"

    Agent("writer", model=scripted(*[calls(("again", {}))] * 9), tools=[again], requests_max=3)
    assert "Raise requests_max" in failure_of()


def test_a_cancelled_run_stops_its_agent() -> None:
    begun = asyncio.Event()

    async def think(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        begun.set()
        await asyncio.Event().wait()
        return says("never")

    Agent("writer", model=FunctionModel(think))

    async def main() -> str:
        async with running() as (engine, handle):
            await asyncio.wait_for(begun.wait(), PATIENCE_S)
            await engine.cancel(handle.run_id)
            while not handle_row(engine, handle).ended:
                await asyncio.sleep(0)
            return handle_row(engine, handle).status

    assert asyncio.run(main()) == "cancelled"


# --- what it cost -----------------------------------------------------------------------------------------------------


def test_usage_is_totalled_by_step_agent_and_run_also_of_a_turn_that_failed() -> None:
    def break_down() -> str:
        """Break down."""
        raise ValueError("broken")

    helper = Agent("helper", model=scripted(says("42"), says("43")))
    model = scripted(calls(("helper", {"input": "how many?"})), calls(("break_down", {})))
    Agent("writer", model=model, tools=[helper, break_down])

    async def main() -> None:
        async with running() as (engine, handle):
            with pytest.raises(RunFailed):
                await asyncio.wait_for(handle.result(), PATIENCE_S)
            history = read_history(engine, engine.find(handle.run_id))
            assert [(each.agent, each.requests) for each in history.used()] == [("writer", 2), ("helper", 1)]
            shown = dict(facts(history, set()))
            assert shown["models"].startswith("3 requests, ")
            assert "price unknown" in shown["models"]
            (turn,) = [each for each in history.items() if each.name == "writer"]
            assert turn.used() == history.used()
            assert history_json(history, [], set())["usage"][1]["agent"] == "helper"

    asyncio.run(main())


def test_a_price_that_is_known_is_counted_and_an_unknown_one_is_not_zero() -> None:
    response = ModelResponse(parts=[], model_name="gpt-4o", provider_name="openai")
    response.usage.input_tokens, response.usage.output_tokens = 1_000_000, 0
    assert price_of(response) == pytest.approx(2.5)
    response.model_name = "nobody-knows"
    assert price_of(response) is None
    assert (Usage(price_usd=1.0) + Usage(price_usd=None)).price_usd is None
