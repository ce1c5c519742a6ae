"""A model that answers from a list, and fails loudly on what the list does not foresee. For tests of LLM agents.

It is a Pydantic AI model like any other: ``Agent("writer", model=scripted_model([…]))``; or, in an environment,
``env.model("writer", […])``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any, cast

from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from pydantic_core import to_json, to_jsonable_python

from cadenza.agents.durable_model import VOLATILE, dumped
from cadenza.durable.scope import current_scope
from cadenza.testing.tool_call import ToolCall


class ScriptedModel(FunctionModel):
    """See ``cadenza.testing.scripted_model``. ``requests`` are the messages of every request that was made."""

    def __init__(self, answers: Iterable[Any], name: str, on_problem: Callable[[str], None]) -> None:
        super().__init__(self._answer, stream_function=self._stream, model_name=f"scripted-{name}")
        self._name, self._answers, self._on_problem = name, list(answers), on_problem
        self._given: dict[tuple[Any, str, bytes], int] = {}
        self.requests: list[list[ModelMessage]] = []

    @property
    def left(self) -> int:
        """How many answers nobody has asked for."""
        return len(self._answers) - len(self._given)

    async def _answer(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        self.requests.append(messages)
        key = asyncio.get_running_loop(), _step_key(), to_json(steady(dumped(messages)))
        if key not in self._given:
            if not self.left:
                self._fail(
                    f"its script has run out: request {len(self._given) + 1} finds {len(self._answers)} answers used. "
                    f"It was told last: {_last(messages)}"
                )
            self._given[key] = len(self._given)
        number = self._given[key]
        answer = self._answers[number]
        if callable(answer):
            answer = answer(messages)
        if isinstance(answer, BaseException):
            raise answer
        return self._response(answer, number + 1, info)

    def _response(self, answer: Any, number: int, info: AgentInfo) -> ModelResponse:
        if isinstance(answer, ModelResponse):
            return answer
        calls: list[Any] = cast("list[Any]", answer) if isinstance(answer, list) else [answer]
        if calls and all(isinstance(each, ToolCall) for each in calls):
            known = [tool.name for tool in info.function_tools]
            for each in calls:
                if each.tool not in known:
                    self._fail(
                        f"answer {number} calls the tool {each.tool!r}; the agent has {', '.join(known) or 'none'}"
                    )
            ids = [f"scripted-{number}-{index}" for index in range(1, len(calls) + 1)]
            parts = [ToolCallPart(each.tool, each.arguments, id) for each, id in zip(calls, ids, strict=True)]
            return ModelResponse(parts, model_name=self.model_name)
        if isinstance(answer, str) and info.allow_text_output:
            return ModelResponse([TextPart(answer)], model_name=self.model_name)
        if not info.output_tools:
            text = answer if isinstance(answer, str) else to_json(answer).decode()
            return ModelResponse([TextPart(text)], model_name=self.model_name)
        tool = info.output_tools[0]
        value: Any = to_jsonable_python(answer)
        arguments = {tool.outer_typed_dict_key: value} if tool.outer_typed_dict_key else value
        return ModelResponse([ToolCallPart(tool.name, arguments, f"scripted-{number}-out")], model_name=self.model_name)

    async def _stream(
        self, messages: list[ModelMessage], info: AgentInfo
    ) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
        for piece in streamed(await self._answer(messages, info)):
            yield piece

    def _fail(self, problem: str) -> None:
        message = f"the scripted model of {self._name!r}: {problem}"
        self._on_problem(message)
        raise AssertionError(message)


def streamed(response: ModelResponse) -> Iterator[str | dict[int, DeltaToolCall]]:
    """A response in pieces, as a model that streams gives it."""
    for index, part in enumerate(response.parts):
        if isinstance(part, TextPart):
            yield from part.content.splitlines(keepends=True)
        elif isinstance(part, ToolCallPart):
            arguments = part.args if isinstance(part.args, str) else json.dumps(part.args)
            yield {index: DeltaToolCall(part.tool_name, arguments, tool_call_id=part.tool_call_id)}


def _step_key() -> str:
    """The running step's key; empty outside of one."""
    scope = current_scope.get()
    return scope.key if scope.attempt else ""


def steady(value: Any) -> Any:
    """Without what differs from one attempt to the next."""
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value).items()
        return {key: steady(each) for key, each in items if key not in VOLATILE}
    if isinstance(value, list):
        return [steady(each) for each in cast("list[Any]", value)]
    return value


def _last(messages: list[ModelMessage]) -> str:
    parts = [str(getattr(part, "content", part)) for part in messages[-1].parts]
    text = " | ".join(parts)
    return text if len(text) <= 300 else text[:299] + "…"
