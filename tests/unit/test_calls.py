"""What `cadenza show` says of the requests and tool calls below a step."""

import json
from typing import Any

import pytest

from cadenza.cli.calls import Call, calls_of
from cadenza.durable.events import MemoSaved


def saved(key: str, value: Any) -> MemoSaved:
    return MemoSaved(at=1, path="b1/a#1", key=key, value=json.dumps(value).encode(), effect="idempotent", input_hash="")


def request(*calls: tuple[str, str, Any], agent: str = "a") -> dict[str, Any]:
    parts = [
        {"part_kind": "tool-call", "tool_call_id": id, "tool_name": name, "args": args} for id, name, args in calls
    ]
    usage = {"input_tokens": 10, "output_tokens": 5}
    response = {"parts": parts, "usage": usage, "model_name": "small"}
    return {"agent": agent, "response": response, "price_usd": 0.5, "latency_s": 0.25}


SPENT = "small, 10 + 5 tokens, $0.5000, 0.2 s"


def test_requests_and_tool_calls_are_told_in_their_order() -> None:
    memos = [
        saved("request/1", request(("c1", "look", '{"number": 3, "word": "tea"}'), ("c2", "pay", {"usd": 5}))),
        saved("tool/1/c1", {"value": ["fine"]}),
        saved("tool/1/c2", {"retry": "too much"}),
        saved("request/2", request()),
    ]
    assert list(calls_of(memos)) == [
        Call("request 1", SPENT),
        Call('look(number=3, word="tea")', '["fine"]'),
        Call("pay(usd=5)", "told the model: too much"),
        Call("request 2", SPENT),
    ]


def test_a_sub_agent_is_told_below_its_caller() -> None:
    memos = [
        saved("request/1", request(("c1", "helper", '{"input": "x"}'))),
        saved("tool/1/c1/request/1", request(("c9", "dig", "{}"), agent="helper")),
        saved("tool/1/c1/tool/1/c9", {"value": 1}),
    ]
    assert list(calls_of(memos))[1:] == [Call("helper: request 1", SPENT, depth=1), Call("dig()", "1", depth=1)]


@pytest.mark.parametrize("value", [{"a": 1}, "text", None, {"response": 1, "agent": "x"}])
def test_memos_of_ordinary_steps_keep_their_names(value: Any) -> None:
    [call] = calls_of([saved("request/1", value)])
    assert call == Call("request/1", json.dumps(value))


@pytest.mark.parametrize(
    ("args", "told"), [("{broken", "{broken"), ("x" * 99, "x" * 59 + "…"), (None, ""), ("[1]", "[1]")]
)
def test_arguments_of_any_form_are_told(args: Any, told: str) -> None:
    _, call = calls_of([saved("request/1", request(("c1", "look", args))), saved("tool/1/c1", {"value": 1})])
    assert call.name == f"look({told})"
