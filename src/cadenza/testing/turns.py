"""Turns of LLM agents, run again offline: every request and tool call is answered from a recording, and kept.

Nothing leaves the process: what the recording does not hold is an error.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextvars import ContextVar
from typing import Any, cast

from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from pydantic_core import from_json

from cadenza.agents.agent import agents
from cadenza.agents.durable_model import dumped, loaded
from cadenza.agents.llm import Agent
from cadenza.durable import codec, commands, events
from cadenza.durable.scope import current_scope
from cadenza.testing.model import steady, streamed
from cadenza.testing.retrace import plain

_asking: ContextVar[list[Any]] = ContextVar("asking")
"""What the request that is being played needs and gives: the recorded response, then the messages."""


class Unforeseen(Exception):
    """The agent asks for something that the recording does not hold."""


class RecordedScope:
    """The running step of a recording. ``parts`` are the sub-results that were asked for."""

    undo_of = ""
    attempt = 1

    def __init__(self, key: str, memos: dict[str, events.MemoSaved]) -> None:
        self.key, self._memos = key, memos
        self.parts: dict[str, Any] = {}
        self.stale: list[str] = []
        self.problem = ""
        self._told: dict[str, int] = {}

    async def memo(self, key: str, fn: Callable[[], Any], effect: str, input: Any) -> Any:
        saved = self._memos.get(key)
        what = f"the memo {key!r}"
        if saved is None:
            asked = f"{key}: {plain(input)}" if not _is_request(key) else key
            self.problem = self.problem or f"the agent asks for {asked}, which the recording does not hold"
            raise Unforeseen(self.problem)
        value = codec.decode(saved.value, Any, what)
        if _is_request(key):
            asking: list[Any] = [value["response"]]
            token = _asking.set(asking)
            try:
                await fn()
            finally:
                _asking.reset(token)
            prefix = key.rpartition("request/")[0]
            self.parts[key] = asking[1][self._told.get(prefix, 0) :]
            self._told[prefix] = len(asking[1])
        else:
            self.parts[key] = plain(input)
        if saved.input_hash != ("" if input is None else codec.fingerprint(input, what)):
            self.stale.append(key)
        return value

    def saved(self) -> Mapping[str, bytes]:
        """Nothing is left out: the answer is compared as a whole."""
        return {}

    def heartbeat(self, detail: Any) -> None:
        """Nobody watches."""


class Playback(FunctionModel):
    """Answers with the recorded response, and keeps the messages."""

    def __init__(self) -> None:
        super().__init__(self._answer, stream_function=self._stream, model_name="recorded")

    async def _answer(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        asking = _asking.get()
        asking.append(steady(dumped(messages)))
        return cast("ModelResponse", loaded([asking[0]])[0])

    async def _stream(
        self, messages: list[ModelMessage], info: AgentInfo
    ) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
        for piece in streamed(await self._answer(messages, info)):
            yield piece


async def take_turn_again(
    command: commands.RunStep, key: str, memos: dict[str, events.MemoSaved]
) -> tuple[RecordedScope, Any]:
    """Run an LLM agent's turn from its recording; returns what it asked for, and its answer or its error as data."""
    agent = cast("Agent[Any]", agents[command.name.partition(":")[2]])
    scope = RecordedScope(key, memos)
    family = agent.family().values()
    before = [(each, dict(each.model_objects)) for each in family]
    playback = Playback()
    args, kwargs = command.step.coerce(command.args, command.kwargs)
    for each in family:
        each.model_objects.update(dict.fromkeys([*each.model_names, *_names(plain(list(args)))], playback))
        each.minds.clear()
    token = current_scope.set(scope)
    try:
        turn = await command.step.fn(*args, **kwargs)
        answer: Any = plain(turn)
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    finally:
        current_scope.reset(token)
        for each, objects in before:
            each.model_objects.clear()
            each.model_objects.update(objects)
            each.minds.clear()
    return scope, {name: each for name, each in answer.items() if name in ("output", "asked", "error")}


def definition_now(name: str) -> Any:
    """What the agent of this name is in the present code."""
    from cadenza.agents.agent_loop import definition_of

    made = plain(definition_of(cast("Agent[Any]", agents[name])))
    made.pop("version")
    return made


def definition_recorded(value: bytes) -> Any:
    """What the agent was, from its recorded definition."""
    made = from_json(value)
    made.pop("version")
    return made


def _is_request(key: str) -> bool:
    return key.split("/")[-2:-1] == ["request"]


def _names(data: Any) -> list[str]:
    """All models that a pinned definition names, its sub-agents' too."""
    if isinstance(data, dict):
        found = cast("dict[str, Any]", data)
        own = found.get("models")
        names = [str(each) for each in cast("list[Any]", own)] if isinstance(own, list) else []
        return names + [name for each in found.values() for name in _names(each)]
    if isinstance(data, list):
        return [name for each in cast("list[Any]", data) for name in _names(each)]
    return []
