"""What a person is asked, and what a person answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from cadenza.errors import DefinitionError, InputInvalid

TaskKind = Literal["approve", "choose", "edit", "respond", "resolve"]
RESOLUTIONS = ("done", "not_done", "failed")


@dataclass(frozen=True, slots=True)
class HumanTask:
    """A question to a person; it parks the run until it is answered.

    Attributes:
        title: one line, shown in lists.
        kind: ``approve`` (yes or no), ``choose`` (one of ``options``), ``edit`` (a changed ``value``), ``respond``
        (free
            text or data). ``resolve`` is the engine's own: did an irreversible effect happen?
        details: what the person needs to decide, as plain data.
        options: the choices of a ``choose`` task.
        value: what an ``edit`` task starts from; what an ``approve`` task is about, if an approval may change it.
        assignee: the person or group that should answer.
    """

    title: str
    kind: TaskKind = "approve"
    details: Any = None
    options: tuple[str, ...] = ()
    value: Any = None
    assignee: str = ""

    def __post_init__(self) -> None:
        if self.kind not in get_args(TaskKind):
            raise DefinitionError(f"HumanTask.kind is one of {', '.join(get_args(TaskKind))}, not {self.kind!r}")
        if self.kind == "choose" and not self.options:
            raise DefinitionError("a HumanTask of kind 'choose' needs options")


@dataclass(frozen=True, slots=True)
class Answer:
    """A person's answer.

    Attributes:
        approved: for ``approve``.
        choice: for ``choose`` one of the options; for ``resolve`` one of done, not_done, failed.
        value: for ``edit`` and ``respond``; for an ``approve`` that changes the task's value; for a ``resolve`` that
            says done, the result of the step.
        comment: why.
        by: who.
    """

    approved: bool | None = None
    choice: str = ""
    value: Any = None
    comment: str = ""
    by: str = ""

    def __bool__(self) -> bool:
        return self.approved is not False and self.choice not in ("not_done", "failed")


def check_answer(task: HumanTask, answer: Answer) -> None:
    """Refuse an answer that does not fit its task. Raises InputInvalid."""
    problems: list[tuple[str, str, str]] = []
    if task.kind == "approve" and answer.approved is None:
        problems.append(("approved", "this task is approved or rejected", "(nothing)"))
    if task.kind == "approve" and answer.value is not None and (task.value is None or not answer.approved):
        problems.append(("value", "only an approval changes a value, of a task that has one", repr(answer.value)))
    if task.kind == "choose" and answer.choice not in task.options:
        problems.append(("choice", f"one of {', '.join(task.options)}", repr(answer.choice)))
    if task.kind == "resolve" and answer.choice not in RESOLUTIONS:
        problems.append(("choice", f"one of {', '.join(RESOLUTIONS)}", repr(answer.choice)))
    if task.kind in ("edit", "respond") and answer.value is None:
        problems.append(("value", "this task is answered with a value", "(nothing)"))
    if problems:
        raise InputInvalid(f"the answer to {task.title!r}", problems)
