"""Workflow agents: any workflow with a card. A call is a child run."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Unpack, cast

from cadenza.agents.agent import register
from cadenza.agents.call_policy import CallPolicy, under
from cadenza.agents.card import Card
from cadenza.agents.carded import Carded
from cadenza.agents.peer_agent import CardFields
from cadenza.durable.context import Context
from cadenza.durable.define import WorkflowFunction
from cadenza.durable.path import is_label
from cadenza.errors import DefinitionError


class WorkflowAgent(Carded):
    """A card and a workflow; made by ``as_agent``."""

    def __init__(self, workflow: WorkflowFunction[..., Any], card: Card) -> None:
        super().__init__(card)
        self.workflow = workflow

    @property
    def types(self) -> tuple[Any, Any]:
        return self.workflow.input_type if self.workflow.takes_input else type(None), self.workflow.output_type

    def invoke(self, ctx: Context, input: Any) -> Awaitable[Any]:
        """See ``AnyAgent``. Raises InputInvalid if the input does not fit; ChildError at the await."""
        if self.survivor is not None:
            return self.survivor.invoke(ctx, input)
        return ctx.run(self.workflow, input)


def as_agent(
    workflow: Any, *, name: str = "", policy: CallPolicy | None = None, **fields: Unpack[CardFields]
) -> WorkflowAgent:
    """Register a workflow as an agent.

    Args:
        name: unique in the project; the workflow's name by default.
        policy: how calls survive; see Policy.
        fields: see Card; the description is by default the docstring's first line.

    Raises:
        DefinitionError: no workflow, no name, or a name that another agent has.
    """
    if not isinstance(workflow, WorkflowFunction):
        raise DefinitionError(f"{workflow!r} is not a workflow. Decorate the function with @workflow")
    found = cast("WorkflowFunction[..., Any]", workflow)
    if name and not is_label(name):
        raise DefinitionError(f"{name!r} is no name of an agent; use letters, digits, '_', '-' and '.'")
    if not fields.get("description"):
        fields["description"] = (found.fn.__doc__ or "").strip().partition("\n")[0]
    made = WorkflowAgent(found, Card(name=name or found.label, **fields))
    made.survivor = under(made, policy)
    register(made, found.name)
    return made
