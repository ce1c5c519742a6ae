"""An agent under a policy: an agent itself, that calls the other with limits."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

from msgspec.structs import replace

from cadenza.agents.agent import AnyAgent, find_agent
from cadenza.agents.call_policy import Stepped
from cadenza.agents.card import Card
from cadenza.durable.context import Context
from cadenza.durable.define import StepFunction
from cadenza.errors import CircuitOpen, DefinitionError, Overloaded, RetriesSpent
from cadenza.routing.guard import Guard, guard_of

if TYPE_CHECKING:
    from cadenza.routing.policy import Policy


class Governed:
    """See ``Policy.on``."""

    def __init__(self, agent: AnyAgent | str, policy: Policy, instance: str = "") -> None:
        self.agent = find_agent(agent) if isinstance(agent, str) else agent
        self.policy, self._instance = policy, instance
        self._guard: Guard | None = None
        self._inner = self._within(self.agent)

    @property
    def name(self) -> str:
        return self.agent.name

    @property
    def card(self) -> Card:
        return self.agent.card

    @property
    def guard(self) -> Guard:
        """What this process keeps of the instance."""
        if self._guard is None:
            card = self.agent.card
            key = f"{card.name}@{card.version}/{self._instance}"
            self._guard = guard_of(card.name, key, self.policy.limits)
        return self._guard

    def invoke(self, ctx: Context, input: Any) -> Awaitable[Any]:
        """See ``AnyAgent``."""
        return self._inner.invoke(ctx, input)

    def _within(self, agent: AnyAgent) -> AnyAgent:
        """The agent with its step's attempts behind the guard."""
        if not callable(getattr(agent, "within", None)):
            if of_attempts := self.policy.of_attempts:
                raise DefinitionError(
                    f"{agent.name}: its calls are no attempts of a step, so that {of_attempts[0]} means nothing. "
                    "Give it to the agents that it calls"
                )
            return _bare(agent)
        return cast("AnyAgent", cast("Stepped", agent).within(self._guarded, **self.policy.options))

    def _guarded(self, step: StepFunction[..., Any]) -> StepFunction[..., Any]:
        settings = step.settings
        changes: dict[str, Any] = {"raises": (*settings.raises, CircuitOpen, Overloaded)}
        if settings.retry is not None:
            changes["retry"] = replace(settings.retry, never_on=(*settings.retry.never_on, RetriesSpent))
        changed = step.options(**changes)

        async def around(inner: Callable[[], Awaitable[Any]]) -> Any:
            return await self.guard.attempt(inner, settings)

        return changed.within(around)

    def __repr__(self) -> str:
        return f"<agent {self.name} under {self.policy}>"


def _bare(agent: AnyAgent) -> AnyAgent:
    """The agent without the policy that it was defined with."""
    if getattr(agent, "survivor", None) is None:
        return agent
    twin = copy.copy(agent)
    cast("Any", twin).survivor = None
    return twin
