"""What an agent and a policy know of each other: the layers above supply policies, agents let them in.

A policy makes of an agent another one, which calls it with limits, and goes on where it fails.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, Self

from cadenza.agents.agent import AnyAgent
from cadenza.durable.define import StepFunction
from cadenza.errors import DefinitionError

Change = Callable[[StepFunction[..., Any]], StepFunction[..., Any]]


class CallPolicy(Protocol):
    """How calls of an agent survive; see ``cadenza.routing.policy.Policy``."""

    @property
    def options(self) -> dict[str, Any]:
        """What it says that a step's own options say too: ``timeout_s``, ``retry``."""
        ...

    def on(self, agent: Any) -> AnyAgent:
        """The agent under this policy. Raises DefinitionError: it contradicts the agent."""
        ...


class Stepped(Protocol):
    """An agent whose calls are attempts of a step."""

    def within(self, change: Change, **options: Any) -> Self:
        """The same agent with other options, and its step changed."""
        ...


def under(agent: AnyAgent, policy: CallPolicy | None) -> AnyAgent | None:
    """What ``agent.invoke`` hands its calls to; None without a policy. Raises DefinitionError: they contradict."""
    return None if policy is None else policy.on(agent)


def refuse_twice(agent: str, policy: CallPolicy | None, said: Mapping[str, Any]) -> None:
    """Raise DefinitionError if a definition gives an option in its policy and beside it."""
    if policy is None:
        return
    if twice := [name for name, value in said.items() if value is not None and name in policy.options]:
        raise DefinitionError(f"{agent}: {twice[0]} is given twice, in the definition and in its policy; drop one")
