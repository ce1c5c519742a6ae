"""An agent under a policy: an agent itself, that calls the other with limits, and goes on where it fails."""

from __future__ import annotations

import asyncio
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
from cadenza.routing.chosen_context import ChosenContext
from cadenza.routing.fallback import FAILURES, Chain, in_chain
from cadenza.routing.guard import Guard, guard_of
from cadenza.routing.pool import PoolOptions
from cadenza.routing.validation import Validation

if TYPE_CHECKING:
    from cadenza.routing.policy import Policy


class Governed:
    """See ``Policy.on``."""

    def __init__(self, agent: AnyAgent | str, policy: Policy, instance: str = "") -> None:
        self.agent = find_agent(agent) if isinstance(agent, str) else agent
        self.policy, self._instance = policy, instance
        self._by_key: dict[str, AnyAgent] = {}
        self._within("")  # what contradicts itself is refused now
        self._chain = self._fallbacks()
        self._validation = self._validated() if policy.validators else None

    @property
    def name(self) -> str:
        return self.agent.name

    @property
    def card(self) -> Card:
        return self.agent.card

    @property
    def key(self) -> str:
        """Of the instance that is called where nobody has chosen another one."""
        card = self.agent.card
        return f"{card.name}@{card.version}/{self._instance}"

    def guard(self, key: str = "") -> Guard:
        """What this process keeps of an instance."""
        return guard_of(self.agent.name, key or self.key, self.policy.limits)

    def invoke(self, ctx: Context, input: Any) -> Awaitable[Any]:
        """See ``AnyAgent``. Raises what the agent raises; OutputRejected; TimeoutError; Exhausted."""
        key = ctx.key if isinstance(ctx, ChosenContext) else self.key
        inner = self._inner(key)
        if self._chain is None and self._validation is None and self.policy.total_timeout_s is None:
            return inner.invoke(ctx, input)
        return asyncio.ensure_future(self._call(ctx, inner, key, input))

    async def _call(self, ctx: Context, inner: AnyAgent, key: str, input: Any) -> Any:
        if in_chain.get() is self.policy:  # another instance: what called it checks it too
            return await inner.invoke(ctx, input)

        async def within(ask: Callable[[Any], Awaitable[Any]]) -> Any:
            return await self._limited(ctx, input, ask)

        try:
            return await within(lambda given: inner.invoke(ctx, given))
        except FAILURES as error:
            if self._chain is None or in_chain.get() is not None:
                raise
            return await self._chain.go_on(ctx, key, input, error, within)

    async def _limited(self, ctx: Context, input: Any, ask: Callable[[Any], Awaitable[Any]]) -> Any:
        total_s = self.policy.total_timeout_s
        limit = asyncio.timeout(total_s)
        try:
            async with limit:
                if self._validation is None:
                    return await ask(input)
                return await self._validation.passed(ctx, input, ask)
        except TimeoutError as error:
            if limit.expired():
                raise TimeoutError(f"{self.name} has not answered within {total_s:g} s in all") from error
            raise

    def _fallbacks(self) -> Chain | None:
        policy = self.policy
        if not policy.fallback and not policy.dead_letter:
            return None
        return Chain(self.agent, policy.fallback, policy, dead_letter=policy.dead_letter)

    def _validated(self) -> Validation:
        policy, takes = self.policy, getattr(self.agent, "types", (Any, Any))[0]
        return Validation(self.name, policy.validators, policy.repair_rounds, policy.repair, takes)

    def _inner(self, key: str) -> AnyAgent:
        if key not in self._by_key:
            self._by_key[key] = self._within(key)
        return self._by_key[key]

    def _within(self, key: str) -> AnyAgent:
        """The agent with its step's attempts behind the guard of an instance."""
        if not callable(getattr(self.agent, "within", None)):
            if of_attempts := self.policy.of_attempts:
                raise DefinitionError(
                    f"{self.name}: its calls are no attempts of a step, so that {of_attempts[0]} means nothing. "
                    "Give it to the agents that it calls"
                )
            return _bare(self.agent)
        options = self.policy.options
        return cast("AnyAgent", cast("Stepped", self.agent).within(lambda each: self._guarded(each, key), **options))

    def _guarded(self, step: StepFunction[..., Any], key: str) -> StepFunction[..., Any]:
        self.policy.check(self.name, step)
        if self.policy.killable:
            from cadenza.routing.killable import killable  # seldom needed

            step = killable(step, self.policy.pool or PoolOptions())
        settings = step.settings
        changes: dict[str, Any] = {"raises": (*settings.raises, CircuitOpen, Overloaded)}
        if settings.retry is not None:
            changes["retry"] = replace(settings.retry, never_on=(*settings.retry.never_on, RetriesSpent))
        changed = step.options(**changes)

        async def around(inner: Callable[[], Awaitable[Any]]) -> Any:
            return await self.guard(key).attempt(inner, settings)

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
