"""What a provider can do wrong, through its real client: one clear message each, and the run keeps its state."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cadenza import Agent, Context, Engine, Retry, RunFailed, workflow
from cadenza.agents import agent as registry
from tests.acceptance.model_server import ModelServer, Reply

PATIENCE_S = 30


@workflow
async def ask_clerk(ctx: Context, text: str) -> Any:
    return await ctx.call("clerk", text)


def failure(reply: Reply, monkeypatch: pytest.MonkeyPatch, **options: Any) -> str:
    registry.agents.pop("clerk", None)
    Agent("clerk", model="openai-chat:gpt-test", defined_in="here", **options)

    async def main() -> Any:
        async with Engine.open(":memory:") as engine:
            handle = await engine.start(ask_clerk, "hello")
            return await asyncio.wait_for(handle.result(), PATIENCE_S)

    with ModelServer(lambda messages: reply).serving() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(RunFailed) as caught:
            asyncio.run(main())
    return str(caught.value)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        pytest.param(
            Reply(status=401, error={"message": "Incorrect API key provided", "code": "invalid_api_key"}),
            "agent 'clerk', model gpt-test: the key was refused (HTTP 401: Incorrect API key provided). Set the right",
            id="wrong-key",
        ),
        pytest.param(
            Reply(status=404, error={"message": "The model `gpt-test` does not exist", "code": "model_not_found"}),
            "agent 'clerk', model gpt-test: the provider does not know this model (HTTP 404",
            id="unknown-model",
        ),
        pytest.param(
            Reply(status=400, error={"message": "maximum context length is 9", "code": "context_length_exceeded"}),
            "agent 'clerk', model gpt-test: the conversation is longer than its context (HTTP 400",
            id="context-too-long",
        ),
        pytest.param(
            Reply(status=429, error={"message": "slow down", "code": "rate_limit_exceeded"}),
            "agent 'clerk', model gpt-test: the provider's rate limit was reached (HTTP 429: slow down)",
            id="rate-limit",
        ),
        pytest.param(
            Reply(status=429, error={"message": "no credit", "code": "insufficient_quota"}),
            "agent 'clerk', model gpt-test: the account's quota is used up (HTTP 429: no credit)",
            id="no-credit",
        ),
        pytest.param(
            Reply(raw='{"id": "c", "choi'),
            "agent 'clerk', model gpt-test: the answer cannot be read",
            id="truncated-json",
        ),
        pytest.param(Reply(raw="<html>"), "agent 'clerk', model gpt-test: the answer cannot be read", id="not-json"),
        pytest.param(
            Reply(calls=[("x", "final_result", '{"response": {"a": "the lon')], finish="length"),
            "the answer was cut off at the limit of output tokens. Raise max_tokens",
            id="cut-off",
        ),
    ],
)
def test_each_mistake_of_a_provider_is_one_clear_message(
    reply: Reply, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = failure(reply, monkeypatch, output=dict[str, str] if reply.calls else str)
    assert message in said
    assert "clerk failed at b1/clerk#1" in said


def test_an_error_that_does_not_pass_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = Reply(status=401, error={"message": "no", "code": "invalid_api_key"})
    assert "clerk failed at b1/clerk#1: AgentRefused" in failure(
        refused, monkeypatch, retry=Retry(attempts=3, delay_s=0.0)
    )
    busy = Reply(status=400, error={"message": "odd"})
    assert "attempts" not in failure(busy, monkeypatch, retry=Retry(attempts=3, delay_s=0.0))


def test_a_server_that_is_not_there_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    registry.agents.pop("clerk", None)
    Agent("clerk", model="openai-compatible:any@http://127.0.0.1:9/v1", defined_in="here")

    async def main() -> Any:
        async with Engine.open(":memory:") as engine:
            handle = await engine.start(ask_clerk, "hello")
            return await asyncio.wait_for(handle.result(), PATIENCE_S)

    with pytest.raises(RunFailed, match=r"model any: it cannot be reached \(.*cadenza doctor"):
        asyncio.run(main())


def test_no_key_is_said_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    registry.agents.pop("clerk", None)
    Agent("clerk", model="openai:gpt-5", defined_in="here")

    async def main() -> Any:
        async with Engine.open(":memory:") as engine:
            handle = await engine.start(ask_clerk, "hello")
            return await asyncio.wait_for(handle.result(), PATIENCE_S)

    with pytest.raises(RunFailed, match=r"the model 'openai:gpt-5' cannot be used: .*OPENAI_API_KEY"):
        asyncio.run(main())
