"""What an agent is: a card, and something that workflow code can call.

Agents are registered by name and called with ``ctx.call(name, input)``. What a call does is up to the kind of agent: a
step, several steps with a question to a person between them, a child run.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol, TypeGuard, cast

from cadenza.agents.card import Card
from cadenza.durable.context import Context
from cadenza.errors import DefinitionError, UnknownName


class AnyAgent(Protocol):
    """An agent of any kind."""

    @property
    def name(self) -> str: ...

    @property
    def card(self) -> Card: ...

    def invoke(self, ctx: Context, input: Any) -> Awaitable[Any]:
        """Call it durably, from workflow code. Paths are allocated now, not at the await."""
        ...


def is_agent(thing: Any) -> TypeGuard[AnyAgent]:
    """Whether this can be called with ``ctx.call``; its card is not made for that."""
    kind = cast("type[Any]", type(thing))
    return callable(getattr(kind, "invoke", None)) and hasattr(kind, "card")


agents: dict[str, AnyAgent] = {}
_defined: dict[str, str] = {}


def register(made: AnyAgent, definition: str) -> None:
    """Let ``ctx.call`` find an agent by its name.

    Args:
        definition: where it is defined (``module:qualname``, a file): the same place may define it again.

    Raises:
        DefinitionError: the name belongs to an agent that is defined elsewhere.
    """
    other = _defined.setdefault(made.name, definition)
    if other != definition:
        raise DefinitionError(
            f"{definition}: the agent name {made.name!r} belongs to {other}. Give name=…; if this is another version "
            f"of it, add it then with registry.add(agent, name={made.name!r}, version=…)"
        )
    agents[made.name] = made


def find_agent(name: str) -> AnyAgent:
    """The agent of this name. Raises UnknownName with the nearest ones."""
    if name not in agents:
        raise UnknownName("agent", name, agents, "Import the module that defines it.")
    return agents[name]


class CallByName:
    """Calls agents by name, or by themselves: the Caller that Context uses."""

    def call(self, ctx: Context, agent: Any, input: Any) -> Awaitable[Any]:
        found = find_agent(agent) if isinstance(agent, str) else agent
        if not is_agent(found):
            raise DefinitionError(
                f"{found!r} is not an agent. Decorate the function with @agent, or give an agent's name"
            )
        return found.invoke(ctx, input)


Context.caller = CallByName()
