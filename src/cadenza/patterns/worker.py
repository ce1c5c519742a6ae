"""What a pattern may be given to do the work."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

from cadenza.agents.agent import AnyAgent, is_agent
from cadenza.durable.context import Context
from cadenza.durable.define import StepFunction, WorkflowFunction
from cadenza.errors import DefinitionError

Coroutine = Callable[[Context, Any], Awaitable[Any]]
Work = str | AnyAgent | StepFunction[..., Any] | WorkflowFunction[..., Any] | Coroutine
"""An agent or its name, a step, a workflow (run as a child), or an async function of (ctx, input)."""


def perform(ctx: Context, work: Work, input: Any) -> Awaitable[Any]:
    """Have ``work`` done on ``input``. Raises DefinitionError if it is nothing that can work."""
    if isinstance(work, str) or is_agent(work):
        return ctx.call(work, input)
    if isinstance(work, StepFunction):
        return ctx.step(cast("StepFunction[..., Any]", work), input)
    if isinstance(work, WorkflowFunction):
        return ctx.run(cast("WorkflowFunction[..., Any]", work), input)
    if callable(work):
        return work(ctx, input)
    raise DefinitionError(f"{work!r} can do no work: give an agent, its name, a step, a workflow, or an async function")
