"""People and workflows as tools: the turn ends, workflow code makes the call, and another turn goes on with the result.

A call may take days. Meanwhile the run is parked, and nothing is kept in memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cadenza.agents.agent import AnyAgent, find_agent
from cadenza.agents.carded import Carded
from cadenza.agents.json_schema import type_of
from cadenza.agents.turn import Called, Returned
from cadenza.durable import codec
from cadenza.durable.context import Context
from cadenza.errors import ChildError, InputInvalid, StepError

if TYPE_CHECKING:
    import pydantic_ai
    from pydantic_ai import RunContext

NOTHING: Any = type(None)


async def called(ctx: Context, call: Called) -> Returned:
    """Make a call for an agent's model, from workflow code; what it fails with is for the model to read.

    Raises:
        UnknownName: there is no such agent any more.
    """
    callee = find_agent(call.callee)
    try:
        value = await callee.invoke(ctx, call.input)
    except (ChildError, StepError, InputInvalid, TimeoutError) as error:
        return Returned(None, str(error))
    what = f"the result of {call.callee}"
    return Returned(codec.decode(codec.encode(value, Any, what), Any, what))


def tool_of(agent: AnyAgent) -> pydantic_ai.Tool[Any]:
    """The agent as a tool whose calls are put off; ``ctx.deps.calls`` gets their inputs."""
    import pydantic_ai
    from pydantic_ai.exceptions import CallDeferred

    takes: Any = _input_of(agent)

    async def call(ctx: RunContext[Any], input: Any) -> Any:
        what = f"the input of {agent.name}"
        ctx.deps.calls[ctx.tool_call_id or ""] = codec.decode(codec.encode(input, takes, what), Any, what)
        raise CallDeferred

    async def call_without(ctx: RunContext[Any]) -> Any:
        ctx.deps.calls[ctx.tool_call_id or ""] = None
        raise CallDeferred

    call.__annotations__["input"] = takes
    function: Any = call_without if takes is NOTHING else call
    for each in (call, call_without):
        each.__annotations__["ctx"] = pydantic_ai.RunContext[Any]
    description = agent.card.description or f"Ask {agent.name}."
    return pydantic_ai.Tool(function, takes_ctx=True, name=agent.name, description=description)


def _input_of(agent: AnyAgent) -> Any:
    """The type of its input; made of the card's schema where the agent has no types."""
    if isinstance(agent, Carded):
        return agent.types[0]
    return type_of(agent.card.input_schema or {}, f"the input of {agent.name}")
