"""Workflow agents: any workflow with a card. A call is a child run."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Awaitable
from typing import Any, Unpack, cast

from cadenza.agents.agent import register
from cadenza.agents.card import Card
from cadenza.agents.peer_agent import CardFields, schema_of
from cadenza.durable.context import Context
from cadenza.durable.define import WorkflowFunction
from cadenza.durable.path import is_label
from cadenza.errors import DefinitionError


class WorkflowAgent:
    """A card and a workflow; made by ``as_agent``."""

    def __init__(self, workflow: WorkflowFunction[..., Any], card: Card) -> None:
        self.workflow = workflow
        self._card = card

    @property
    def name(self) -> str:
        return self._card.name

    @property
    def card(self) -> Card:
        """The card with the schemas of the workflow's types."""
        return self._described

    @functools.cached_property
    def _described(self) -> Card:
        takes = self.workflow.input_type if self.workflow.takes_input else type(None)
        given, made = schema_of(takes, "validation"), schema_of(self.workflow.output_type, "serialization")
        return dataclasses.replace(self._card, input_schema=given, output_schema=made)

    def invoke(self, ctx: Context, input: Any) -> Awaitable[Any]:
        """See ``AnyAgent``. Raises InputInvalid if the input does not fit; ChildError at the await."""
        return ctx.run(self.workflow, input)

    def __repr__(self) -> str:
        return f"<agent {self.name}>"


def as_agent(workflow: Any, *, name: str = "", **fields: Unpack[CardFields]) -> WorkflowAgent:
    """Register a workflow as an agent.

    Args:
        name: unique in the project; the workflow's name by default.
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
    register(made, found.name)
    return made
