"""What HTTP and process agents share: a call is one durable step, made from the agent's definition."""

from __future__ import annotations

import copy
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Self, TypedDict

from msgspec.structs import replace

from cadenza.agents.agent import register
from cadenza.agents.call_policy import CallPolicy, refuse_twice, under
from cadenza.agents.card import Card, Skill
from cadenza.agents.function import FunctionAgent
from cadenza.durable.define import Effect, Retry, StepFunction, StepOptions, steps
from cadenza.errors import DefinitionError, PeerFailed, PeerRefused, UnknownName, UsageError

FINAL = (PeerFailed, UsageError)
"""No retry would help."""


class CardFields(TypedDict, total=False):
    """What a definition may say about the agent; see Card."""

    description: str
    version: str
    skills: tuple[Skill, ...]
    price_usd: float | None
    latency_s: float | None
    placement: tuple[str, ...]
    data_classes: tuple[str, ...]
    concurrency: int | None
    requests_per_minute: int | None
    tokens_per_minute: int | None
    owner: str
    purpose: str


class CallFields(CardFields, total=False):
    """What a definition may say about a call as well; see ``step``, and Policy."""

    effect: Effect
    timeout_s: float | None
    heartbeat_timeout_s: float | None
    retry: Retry | None
    reconcile: Callable[..., Any] | None
    undo: Callable[..., Any] | None
    policy: CallPolicy | None


class PeerAgent(FunctionAgent[[Any], Any]):
    """An agent outside of this process: a card, and a step that asks it.

    Args:
        kind: of agent; part of the step's full name.
        call: asks it; runs inside of the step.
        input, output: types of what goes in and comes out.
        options: of the step; ``fields`` are those of the card.
        policy: how calls survive.
    """

    def __init__(
        self,
        kind: str,
        name: str,
        call: Callable[[Any], Awaitable[Any]],
        types: tuple[Any, Any],
        options: StepOptions,
        fields: dict[str, Any],
        policy: CallPolicy | None = None,
    ) -> None:
        async def ask(input: Any) -> Any:
            return await call(input)

        ask.__module__, ask.__qualname__, ask.__doc__ = f"{__package__}.{kind}", name, fields.get("description")
        ask.__annotations__ = {"input": types[0], "return": types[1]}
        options = replace(options, retry=_sensible(options.retry), raises=(PeerRefused,))
        step: StepFunction[[Any], Any] = StepFunction(ask, options, name)
        super().__init__(step, Card(name=name, **fields))
        self.survivor = under(self, policy)
        register(self, f"{defining_module()}:{name}")
        steps[step.name] = step

    def options(self, **changes: Any) -> Self:
        """The same agent with other step options for one call. Raises DefinitionError for ``effect`` and ``raises``."""
        if fixed := [each for each in ("effect", "raises") if each in changes]:
            raise DefinitionError(f"{self.name}: {fixed[0]} belongs to the definition, not to a call")
        if "retry" in changes:
            changes["retry"] = _sensible(changes["retry"])
        twin = copy.copy(self)
        twin.step, twin.survivor = self.step.options(**changes), None
        return twin


def _sensible(retry: Retry | None) -> Retry | None:
    """The same, but never for what no retry would help."""
    if retry is None:
        return None
    return replace(retry, never_on=tuple(dict.fromkeys((*retry.never_on, *FINAL))))


def policy_in(fields: CallFields, name: str) -> CallPolicy | None:
    """Take the policy out of a definition. Raises DefinitionError if an option is given in both."""
    policy = fields.pop("policy", None)
    refuse_twice(name, policy, fields)
    return policy


def split(fields: CallFields, what: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of the step, and fields of the card. Raises UnknownName for any other."""
    known = [*CallFields.__annotations__]
    if unknown := [name for name in fields if name not in known]:
        raise UnknownName(f"option of {what}", unknown[0], known)
    of_card = {name: value for name, value in fields.items() if name in CardFields.__annotations__}
    return {name: value for name, value in fields.items() if name not in of_card}, of_card


def defining_module() -> str:
    """The module outside of Cadenza whose code makes the definition."""
    frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "cadenza":
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", ""))
