"""A shape: one workflow, what the world around it does, and how it must end when nothing goes wrong.

Shapes are the corpus that the properties of the durable core are held against; see corpus.py for the list.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from cadenza import Answer, HumanTask
from cadenza.durable.define import WorkflowFunction

Status = Literal["completed", "failed", "cancelled", "waiting"]


def whatever(_: Any) -> bool:
    """For results that depend on the order of arrival, which the world draws by lot."""
    return True


def equals(value: Any) -> Callable[[Any], bool]:
    """For results that are the same in any order of arrival."""
    return lambda found: found == value


def approve(task: HumanTask) -> Answer:
    """How a person answers when nothing else is said."""
    value = task.value if task.kind == "approve" else task.value or 1
    return Answer(approved=True, choice=task.options[0] if task.options else "", value=value, by="ann")


@dataclass(frozen=True)
class Shape:
    """One workflow of the corpus.

    Attributes:
        input: what it is started with.
        messages: (name, value) of what is sent to it, in this order, at times that are drawn by lot.
        ends: its status when no failure is injected and nobody cancels it.
        good: whether a result is right.
        answer: how a person answers its questions.
    """

    workflow: WorkflowFunction[..., Any]
    input: Any = None
    messages: tuple[tuple[str, Any], ...] = ()
    ends: Status = "completed"
    good: Callable[[Any], bool] = whatever
    answer: Callable[[HumanTask], Answer] = approve

    @property
    def name(self) -> str:
        return self.workflow.label
