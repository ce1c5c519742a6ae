"""A model whose requests are sub-results of the running step: what was answered is paid for once (design.md, rule 4).

The n-th request of a turn is the memo ``request/n``. Its input is a hash of the messages without times and ids, its
value the response, its price and its latency.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter, ModelResponse
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings
from pydantic_core import to_json

from cadenza.agents.failure import explain
from cadenza.agents.usage import Usage, of_memo, price_of
from cadenza.durable.scope import current_scope

VOLATILE = frozenset({"timestamp", "run_id", "conversation_id", "metadata", "model_id", "usage", "history_digest"})


@dataclass
class TurnState:
    """What happens in one turn of one agent. ``fault`` is the error that must end the step as it is."""

    agent: str
    models: tuple[str, ...]
    stream: bool = False
    requests: int = 0
    tool_calls: int = 0
    usages: list[Usage] = field(default_factory=list[Usage])
    fault: BaseException | None = None

    def failed(self, error: BaseException) -> None:
        """The first error decides: what follows from it is its consequence."""
        self.fault = self.fault or error


class DurableModel(WrapperModel):
    """Hands back the response of a request that an earlier attempt has made."""

    def __init__(self, wrapped: Model, state: TurnState) -> None:
        super().__init__(wrapped)
        self._state = state
        self._digests: list[tuple[ModelMessage, bytes]] = []

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        state = self._state
        state.requests += 1

        async def ask() -> dict[str, Any]:
            began_s = time.perf_counter()
            response = await self._ask(messages, model_settings, model_request_parameters)
            latency_s = round(time.perf_counter() - began_s, 6)
            answer = {"response": dumped([response])[0], "price_usd": price_of(response), "latency_s": latency_s}
            return {"agent": state.agent, **answer}

        try:
            saved = await current_scope.get().memo(
                f"request/{state.requests}", ask, "idempotent", self._digest(messages)
            )
        except Exception as error:
            state.failed(explain(error, state.agent, state.models))
            raise
        response = loaded([saved["response"]])[0]
        assert isinstance(response, ModelResponse)
        self._chain(response, saved["response"])
        state.usages.append(of_memo(saved))
        return response

    async def _ask(
        self, messages: list[ModelMessage], settings: ModelSettings | None, parameters: ModelRequestParameters
    ) -> ModelResponse:
        if not self._state.stream:
            return await self.wrapped.request(messages, settings, parameters)
        scope = current_scope.get()
        async with self.wrapped.request_stream(messages, settings, parameters) as stream:
            async for event in stream:
                if text := _text_in(event):
                    scope.heartbeat({"agent": self._state.agent, "request": self._state.requests, "text": text})
        return stream.get()

    def _digest(self, messages: Sequence[ModelMessage]) -> str:
        """Of all messages; those that were there at the last request are not hashed again."""
        known = 0
        for (message, _), again in zip(self._digests, messages, strict=False):
            if message is not again:
                break
            known += 1
        del self._digests[known:]
        for message, data in zip(messages[known:], dumped(messages[known:]), strict=True):
            self._chain(message, data)
        return self._digests[-1][1].hex() if self._digests else ""

    def _chain(self, message: ModelMessage, data: Any) -> None:
        before = self._digests[-1][1] if self._digests else b""
        digest = hashlib.blake2b(before + to_json(_canonical(data)), digest_size=16).digest()
        self._digests.append((message, digest))


def dumped(messages: Sequence[ModelMessage]) -> list[Any]:
    """Messages as plain data, without ids that differ from run to run and usage that is nothing."""
    data: list[dict[str, Any]] = ModelMessagesTypeAdapter.dump_python(list(messages), mode="json", exclude_none=True)
    for message in data:
        for name in ("run_id", "conversation_id", "model_id"):
            message.pop(name, None)
        if "usage" in message:
            message["usage"] = {key: each for key, each in message["usage"].items() if each}
    return data


def loaded(data: list[Any]) -> list[ModelMessage]:
    """Messages from plain data."""
    return ModelMessagesTypeAdapter.validate_json(to_json(data))


def _canonical(value: Any) -> Any:
    """Without what differs from one attempt to the next."""
    if isinstance(value, dict):
        items: list[tuple[str, Any]] = sorted(value.items())  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType, reportUnknownMemberType]
        return {key: _canonical(each) for key, each in items if key not in VOLATILE}
    if isinstance(value, list):
        return [_canonical(each) for each in value]  # pyright: ignore[reportUnknownVariableType]
    return value


def _text_in(event: Any) -> str:
    """The text that an event of a response's stream adds."""
    kind = getattr(event, "event_kind", "")
    if kind == "part_start" and event.part.part_kind == "text":
        return event.part.content
    if kind == "part_delta" and event.delta.part_delta_kind == "text":
        return event.delta.content_delta
    return ""
