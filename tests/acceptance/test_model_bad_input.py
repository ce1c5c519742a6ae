"""What goes wrong with models and tools: one clear message each, and the run goes on when it is mended.

Each run has paid for a request and called a tool before it goes wrong. The message says which agent, which model or
tool, what happened, and how to mend it. Then it is mended, the run is retried, and nothing that had been answered is
asked again.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cadenza import Agent, Answer, Context, Engine, EngineOptions, RunFailed, tool, workflow
from cadenza.durable.human import HumanTask
from tests.acceptance.commands import CADENZA
from tests.acceptance.model_server import ModelServer, Reply, turns

OPTIONS = EngineOptions(linger_s=0.0, poll_idle_s=0.01)
RUN = "the run"
calls: Counter[str] = Counter()
mend = threading.Event()
"""Set once the tools are mended, which is when a run has failed."""


@tool
async def stock(item: str) -> int:
    """How many are left."""
    calls["stock"] += 1
    return 3


@tool
async def broken(item: str) -> int:
    calls["broken"] += 1
    if not mend.is_set():
        raise ConnectionError("the warehouse does not answer")
    return 4


@tool(timeout_s=0.05)
async def hanging(item: str) -> int:
    calls["hanging"] += 1
    if calls["hanging"] == 1:
        await asyncio.Event().wait()
    return 5


@tool(timeout_s=0.05)
def stuck(item: str) -> int:
    calls["stuck"] += 1
    mend.wait()
    return 6


@tool
async def huge(item: str) -> str:
    calls["huge"] += 1
    return "small" if mend.is_set() else "x" * 50_000_000


@tool(effect="irreversible")
async def burn(item: str) -> str:
    calls["burn"] += 1
    return "x" * 50_000_000


@tool(needs_approval=True)
async def order(item: str, amount: int) -> str:
    calls[f"order {amount}"] += 1
    return f"ordered {amount}"


def hire(model: str = "openai-chat:gpt-test") -> None:
    """Define the agents; anew for each test, since tests share one registry."""
    Agent("shopkeeper", model=model, tools=[stock, broken, hanging, stuck, huge, burn, order], defined_in="shop")
    Agent("keyless", model="anthropic:claude-haiku-4-5", defined_in="shop")
    Agent("misnamed", model="opnai:gpt-test", defined_in="shop")


@dataclass(frozen=True)
class Question:
    """What is asked of whom."""

    agent: str = "shopkeeper"
    text: str = "How many books are left?"


@workflow
async def ask(ctx: Context, question: Question) -> Any:
    return await ctx.call(question.agent, question.text)


LOOK = Reply(calls=[("a", "stock", {"item": "book"})])
DONE = Reply(text="Three.")


def using(name: str, **arguments: Any) -> Reply:
    return Reply(calls=[("b", name, {"item": "book"} | arguments)])


class Shop:
    """One run in one store, and the model's server."""

    def __init__(self, store: Path, server: ModelServer) -> None:
        self.store, self.server = store, server

    def fails(self, *answers: Reply, agent: str = "shopkeeper") -> str:
        """What a person reads of the run that has failed, when the model has given these answers."""
        self.server.script = turns(*answers)

        async def go() -> str:
            async with Engine.open(self.store, OPTIONS) as engine:
                handle = await engine.start(ask, Question(agent), id=RUN)
                with pytest.raises(RunFailed) as caught:
                    await handle.result()
                mend.set()
                return str(caught.value)

        return asyncio.run(go())

    def report(self, *answers: Reply) -> str:
        """What the command line prints of a run that has failed."""
        self.fails(*answers)
        command = [*CADENZA, "show", "--store", str(self.store), RUN]
        environment = os.environ | {"COLUMNS": "500"}
        return subprocess.run(command, check=False, env=environment, capture_output=True, text=True).stdout

    def retried(self, *answers: Reply) -> Any:
        """The result after the mend, when the model gives these answers; in another loop, as in another process."""
        self.server.script = turns(*answers)

        async def go() -> Any:
            async with Engine.open(self.store, OPTIONS) as engine:
                return await (await engine.retry(RUN)).result()

        return asyncio.run(go())

    def asked_again(self) -> list[int]:
        """Which requests (from 1) came more than once."""
        turns_asked = Counter(
            sum(each["role"] == "assistant" for each in body["messages"]) + 1 for body in self.server.requests
        )
        return sorted(number for number, times in turns_asked.items() if times > 1)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    hire()
    calls.clear()
    mend.clear()
    with ModelServer(turns()).serving() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield Shop(tmp_path / "cadenza.db", server)
        mend.set()


def says(message: str, *parts: str) -> None:
    """A message holds all of these, and no traceback."""
    missing = [part for part in parts if part not in message]
    assert not missing, message
    assert "Traceback" not in message
    assert len(message) < 700, message


# --- the model --------------------------------------------------------------------------------------------------------

REFUSALS: dict[str, tuple[Reply, tuple[str, ...]]] = {
    "wrong key": (
        Reply(status=401, error={"message": "Incorrect API key provided: sk-no.", "code": "invalid_api_key"}),
        ("key was refused", "Incorrect API key provided", "API key in the environment"),
    ),
    "unknown model": (
        Reply(status=404, error={"message": "The model `gpt-test` does not exist.", "code": "model_not_found"}),
        ("does not know this model", "Check the model's name"),
    ),
    "context too long": (
        Reply(
            status=400,
            error={
                "message": "This model's maximum context length is 8192 tokens; your messages have 9000.",
                "code": "context_length_exceeded",
            },
        ),
        ("longer than its context", "8192", "larger context"),
    ),
    "quota used up": (
        Reply(status=429, error={"message": "You exceeded your current quota.", "code": "insufficient_quota"}),
        ("quota", "Top it up"),
    ),
    "rate limit for ever": (
        Reply(status=429, error={"message": "Rate limit reached for gpt-test.", "code": "rate_limit_exceeded"}),
        ("rate limit", "Wait"),
    ),
    "truncated JSON": (Reply(raw='{"id": "c", "object": "chat.compl'), ("cannot be read", "Try again")),
}


@pytest.mark.parametrize(("refusal", "parts"), REFUSALS.values(), ids=REFUSALS)
def test_what_a_model_refuses_is_told_and_mended_without_paying_again(
    refusal: Reply, parts: tuple[str, ...], shop: Shop
) -> None:
    message = shop.fails(LOOK, refusal)
    print(message)
    says(message, "agent 'shopkeeper'", "gpt-test", *parts)
    assert calls == {"stock": 1}
    before = len(shop.server.requests)
    assert shop.retried(LOOK, DONE) == "Three."
    assert len(shop.server.requests) == before + 1
    assert 1 not in shop.asked_again()
    assert calls == {"stock": 1}


def test_a_rate_limit_that_passes_is_waited_for(shop: Shop) -> None:
    limited = [Reply(status=429, error={"message": "Rate limit reached.", "code": "rate_limit_exceeded"})]
    answers = turns(LOOK, DONE)

    def script(messages: list[dict[str, Any]]) -> Reply:
        return limited.pop() if len(messages) > 1 and limited else answers(messages)

    async def go() -> Any:
        async with Engine.open(shop.store, OPTIONS) as engine:
            return await (await engine.start(ask, Question(), id=RUN)).result()

    shop.server.script = script
    assert asyncio.run(go()) == "Three."
    assert len(shop.server.requests) == 3
    assert calls == {"stock": 1}


@pytest.mark.parametrize("wrong", ["openai-chat:gpt-tset", "opnai:gpt-test"])
def test_a_run_with_a_wrong_name_of_a_model_goes_on_with_the_right_one(wrong: str, shop: Shop) -> None:
    """A run keeps the models that it began with; but not one that nobody knows."""
    hire(wrong)
    shop.server.unknown_models = {"gpt-tset"}
    says(shop.fails(), "shopkeeper failed", wrong.split(":")["tset" in wrong])
    hire()
    assert shop.retried(LOOK, DONE) == "Three."
    assert [body["model"] for body in shop.server.requests][-2:] == ["gpt-test"] * 2


def test_a_model_that_is_gone_in_the_middle_of_a_conversation_is_replaced(shop: Shop) -> None:
    hire("openai-chat:gpt-old")
    message = shop.fails(LOOK, REFUSALS["unknown model"][0])
    says(message, "agent 'shopkeeper'", "does not know this model")
    hire()
    shop.server.unknown_models = {"gpt-old"}
    assert shop.retried(LOOK, DONE) == "Three."
    assert [body["model"] for body in shop.server.requests] == ["gpt-old"] * 3 + ["gpt-test"]
    assert calls == {"stock": 1}


def test_a_missing_key_is_named(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    message = shop.fails(agent="keyless")
    print(message)
    says(message, "keyless failed", "anthropic:claude-haiku-4-5", "ANTHROPIC_API_KEY")


def test_a_run_without_a_key_goes_on_with_one(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.delenv("OPENAI_BASE_URL")
    says(shop.fails(), "shopkeeper failed", "openai-chat:gpt-test", "OPENAI_API_KEY is not set")
    assert shop.server.requests == []
    for name, value in shop.server.environment.items():
        monkeypatch.setenv(name, value)
    assert shop.retried(LOOK, DONE) == "Three."
    assert len(shop.server.requests) == 2


def test_an_unknown_provider_is_named(shop: Shop) -> None:
    message = shop.fails(agent="misnamed")
    print(message)
    says(message, "misnamed failed", "'opnai'", "Did you mean 'openai'")


# --- tools ------------------------------------------------------------------------------------------------------------

BROKEN: dict[str, tuple[str, tuple[str, ...]]] = {
    "broken": ("raises", ("ConnectionError: the warehouse does not answer", "raises=")),
    "stuck": ("hangs in a thread", ("took longer than 0.05 s",)),
    "huge": ("returns 50 MB", ("its result is 50,000,002 bytes", "at most")),
}


@pytest.mark.parametrize(("name", "parts"), [(name, parts) for name, (_, parts) in BROKEN.items()], ids=BROKEN)
def test_what_a_tool_does_wrong_is_told_and_mended_without_paying_again(
    name: str, parts: tuple[str, ...], shop: Shop
) -> None:
    message = shop.fails(LOOK, using(name))
    print(message)
    says(message, "shopkeeper", name, *parts)
    requests = len(shop.server.requests)
    assert requests == 2
    assert shop.retried(LOOK, using(name), DONE) == "Three."
    assert len(shop.server.requests) == requests + 1
    assert shop.asked_again() == []
    assert calls["stock"] == 1


def test_a_tool_that_hangs_is_stopped_and_the_model_is_told(shop: Shop) -> None:
    again = Reply(calls=[("c", "hanging", {"item": "book"})])
    shop.server.script = turns(LOOK, using("hanging"), again, DONE)

    async def go() -> Any:
        async with Engine.open(shop.store, OPTIONS) as engine:
            return await (await engine.start(ask, Question(), id=RUN)).result()

    assert asyncio.run(go()) == "Three."
    assert "took longer than 0.05 s" in str(shop.server.requests[2]["messages"][-1])
    assert calls == {"stock": 1, "hanging": 2}


# --- as people read it -----------------------------------------------------------------------------------------------


def test_the_error_of_an_agent_is_told_without_its_causes_and_the_lines_of_libraries(shop: Shop) -> None:
    said = shop.report(LOOK, REFUSALS["wrong key"][0])
    assert said.count("key was refused") == 2  # where it happened, and as the end of the run
    assert "site-packages" not in said
    assert "caused by" not in said


def test_the_line_of_a_tool_that_raises_is_shown(shop: Shop) -> None:
    said = shop.report(LOOK, using("broken"))
    assert 'raise ConnectionError("the warehouse does not answer")' in said
    assert "site-packages" not in said


# --- approvals --------------------------------------------------------------------------------------------------------


def person(shop: Shop, answers: list[Answer], seen: list[HumanTask]) -> Callable[[], Any]:
    async def go() -> Any:
        async with Engine.open(shop.store, OPTIONS) as engine:
            handle = await engine.start(ask, Question(), id=RUN, on_conflict="join")
            for answer in answers:
                await handle.settled()
                ((row, task),) = engine.tasks()
                seen.append(task)
                await engine.answer(row.run_id, row.path, answer)
            return await handle.result()

    return go


def test_an_approval_for_other_arguments_calls_the_tool_with_those(shop: Shop) -> None:
    shop.server.script = turns(LOOK, using("order", amount=5), DONE)
    seen: list[HumanTask] = []
    assert asyncio.run(person(shop, [Answer(approved=True, value={"item": "book", "amount": 2})], seen)()) == "Three."
    assert [task.details["arguments"] for task in seen] == [{"item": "book", "amount": 5}]
    assert calls == {"stock": 1, "order 2": 1}
    assert shop.asked_again() == []


def test_an_approval_whose_arguments_do_not_fit_is_asked_for_again(shop: Shop) -> None:
    shop.server.script = turns(LOOK, using("order", amount=5), DONE)
    seen: list[HumanTask] = []
    answers = [
        Answer(approved=True, value={"item": "book", "amount": "many"}),
        Answer(approved=True, value={"item": "book", "amount": 2}),
    ]
    assert asyncio.run(person(shop, answers, seen)()) == "Three."
    print(seen[1].details)
    says(seen[1].details["problem"], "amount")
    assert calls == {"stock": 1, "order 2": 1}
    assert shop.asked_again() == []


def test_an_irreversible_tool_whose_result_was_too_large_is_not_called_again_and_a_person_says_what_it_was(
    shop: Shop,
) -> None:
    shop.server.script = turns(LOOK, using("burn"), DONE)
    seen: list[HumanTask] = []
    assert asyncio.run(person(shop, [Answer(choice="done", value="burnt")], seen)()) == "Three."
    says(seen[0].details["reason"], "it was done", "the tool burn of agent shopkeeper is 50,000,002 bytes")
    assert shop.server.requests[-1]["messages"][-1]["content"] == "burnt"
    assert calls == {"stock": 1, "burn": 1}
    assert shop.asked_again() == []
