"""The sub-results of a step, read for people: requests to a model with what each used, and tool calls."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cadenza.agents.usage import REQUEST, of_memos
from cadenza.durable.events import MemoSaved

ARGUMENTS_MAX = 60


@dataclass(frozen=True, slots=True)
class Call:
    """One line: ``request 3`` or ``look(number=2)``, and what came of it. ``depth`` is 1 for a sub-agent's."""

    name: str
    detail: str
    depth: int = 0


def calls_of(memos: Sequence[MemoSaved]) -> Iterator[Call]:
    """A line for each memo, in the order in which they were saved."""
    asked: dict[str, str] = {}
    for memo in memos:
        before, _, own = memo.key.rpartition("/")
        if REQUEST.fullmatch(memo.key) and (used := of_memos([(memo.key, memo.value)])):
            value = json.loads(memo.value)
            scope = before.rpartition("request")[0]
            asked |= {f"{scope}tool/{own}/{call_id}": text for call_id, text in _tool_calls(value["response"])}
            usage = used[0]
            depth = scope.count("tool/")
            who = f"{usage.agent}: " if depth else ""
            yield Call(f"{who}request {own}", f"{', '.join(usage.models)}, {usage.spent}", depth)
        else:
            name = asked.get(memo.key, memo.key)
            yield Call(name, _result(memo.value), memo.key.count("tool/") - (memo.key in asked))


def _tool_calls(response: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for part in response.get("parts", ()):
        if part.get("part_kind") == "tool-call":
            yield part.get("tool_call_id", ""), f"{part.get('tool_name', '')}({_arguments(part.get('args'))})"


def _arguments(given: Any) -> str:
    try:
        values = json.loads(given) if isinstance(given, str) else given
    except ValueError:
        return _cut(str(given))
    if not isinstance(values, dict):
        return _cut(json.dumps(values, ensure_ascii=False)) if values else ""
    return _cut(", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in values.items()))  # pyright: ignore[reportUnknownVariableType]  # JSON


def _result(raw: bytes) -> str:
    """What a tool has given back, without the wrapping in which it is kept."""
    try:
        value = json.loads(raw)
    except ValueError:
        return ""
    match value:
        case {"retry": message} if len(value) == 1:
            return f"told the model: {message}"
        case {"failed": message} if len(value) == 1:
            return f"failed: {message}"
        case {"value": inner} | {"content": inner} | {"return": inner} if len(value) == 1:
            return json.dumps(inner, ensure_ascii=False)
        case _:
            return json.dumps(value, ensure_ascii=False)


def _cut(text: str) -> str:
    return text if len(text) <= ARGUMENTS_MAX else f"{text[: ARGUMENTS_MAX - 1]}…"
