"""An A2A agent that is asked over HTTP+JSON: one message, and its answer (A2A protocol 1.0, ``message:send``)."""

from __future__ import annotations

from typing import Any, cast

from cadenza.agents.card import Card
from cadenza.agents.credential import Credential
from cadenza.agents.http import HttpAgent
from cadenza.agents.json_schema import type_of
from cadenza.durable.define import step
from cadenza.errors import PeerFailed

DONE = "TASK_STATE_COMPLETED"
ASKS = ("TASK_STATE_INPUT_REQUIRED", "TASK_STATE_AUTH_REQUIRED")
OVER = ("TASK_STATE_FAILED", "TASK_STATE_CANCELED", "TASK_STATE_REJECTED")
TIMEOUT_S = 120.0
MEDIA = "application/a2a+json"


class CardAgent(HttpAgent):
    """One call is one message; its id is the call's idempotency key, by which the agent can tell a repeated one.

    Text goes as text, anything else as data; what comes back likewise. Tasks that need more input, or take longer than
    the agent lets a request wait, are failures here: conversations with A2A agents are not spoken.

    Args:
        name: of the step; ``card`` is its card here.
        url: of the HTTP+JSON interface; ``version`` is the protocol's there, ``tenant`` whose agent it is.
    """

    def __init__(
        self, name: str, url: str, version: str, tenant: str, credential: Credential | None, card: Card
    ) -> None:
        place = url.rstrip("/") + (f"/{tenant}" if tenant else "")
        super().__init__(
            name,
            url=f"{place}/message:send",
            method="POST",
            headers={"A2A-Version": version, "Accept": f"{MEDIA}, application/json"},
            input=type_of(card.input_schema or {}, name),
            auth=credential,
            effect="idempotent",
            timeout_s=TIMEOUT_S,
            description=card.description,
            version=card.version,
            skills=card.skills,
            placement=card.placement,
            data_classes=card.data_classes,
        )

    async def _ask(self, input: Any) -> Any:
        part = {"text": input} if isinstance(input, str) else {"data": input}
        message = {"messageId": step.key(), "role": "ROLE_USER", "parts": [part]}
        return self._answer(await super()._ask({"message": message}))

    def _answer(self, reply: Any) -> Any:
        said = cast("dict[str, Any]", reply) if isinstance(reply, dict) else {}
        if isinstance(said.get("message"), dict):
            return _value([said["message"]])
        task = said.get("task")
        if not isinstance(task, dict):
            raise PeerFailed(self.name, f"{self.url} answered with neither a message nor a task")
        found = cast("dict[str, Any]", task)
        status = cast("dict[str, Any]", found.get("status") or {})
        state = str(status.get("state", ""))
        spoken = _value([status["message"]]) if isinstance(status.get("message"), dict) else ""
        if state == DONE:
            return _value(cast("list[Any]", found.get("artifacts") or [])) or spoken
        if state in ASKS:
            hint = "It can only be asked in one message from here: put all that it needs into the input."
            raise PeerFailed(self.name, f"its task asks for more: {spoken or state}", hint)
        if state in OVER:
            ending = state.removeprefix("TASK_STATE_").lower()
            raise PeerFailed(self.name, f"its task was {ending}" + (f": {spoken}" if spoken else ""))
        raise PeerFailed(
            self.name, f"it answered before its task {found.get('id', '')} was done ({state or 'no state'})"
        )


def _value(holders: list[Any]) -> Any:
    """What the parts of messages and artifacts hold: one text, one value, or a list of them."""
    found = [cast("dict[str, Any]", each) for each in holders if isinstance(each, dict)]
    parts = [part for each in found for part in cast("list[Any]", each.get("parts") or [])]
    values = [_part(cast("dict[str, Any]", part)) for part in parts if isinstance(part, dict)]
    if values and all(isinstance(each, str) for each in values):
        return "\n".join(values)
    return values[0] if len(values) == 1 else values or ""


def _part(part: dict[str, Any]) -> Any:
    return part.get("text", part.get("data", part))
