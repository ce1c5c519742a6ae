"""Questions that wait for a person: of one run with its children, or of all runs."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

from cadenza.cli.place import store_flag
from cadenza.durable import events
from cadenza.durable.human import HumanTask
from cadenza.engine.engine import Engine


@dataclass(frozen=True)
class Question:
    """One open question. ``asked_at`` is microseconds since 1970."""

    run_id: str
    path: str
    generation: int
    asked_at: int
    task: HumanTask

    @property
    def key(self) -> tuple[str, str, int]:
        return self.run_id, self.path, self.generation

    def as_json(self) -> dict[str, Any]:
        """What scripts see."""
        task = self.task
        return {
            "run_id": self.run_id,
            "path": self.path,
            "kind": task.kind,
            "title": task.title,
            "details": task.details,
            "options": list(task.options),
            "value": task.value,
            "assignee": task.assignee,
            "asked_at": self.asked_at,
        }


def open_questions(engine: Engine, run_id: str = "", *, answered: bool = False) -> list[Question]:
    """What nobody has answered yet, oldest first; of the run ``run_id`` and its children, or of all runs.

    Args:
        answered: list instead what is answered already, and waits for a worker to take the answer.
    """
    found = [
        Question(row.run_id, row.path, row.generation, row.asked_at, task)
        for row, task in engine.tasks()
        if not run_id or row.run_id == run_id or row.run_id.startswith(f"{run_id}.")
    ]
    taken: dict[str, set[tuple[str, int]]] = {}
    for question in found:
        if question.run_id not in taken:
            taken[question.run_id] = _unread_answers(engine, question.run_id)
    return [each for each in found if ((each.path, each.generation) in taken[each.run_id]) == answered]


def _unread_answers(engine: Engine, run_id: str) -> set[tuple[str, int]]:
    letters = engine.store.letters(engine.find(run_id).no)
    return {(each.event.path, each.generation) for each in letters if isinstance(each.event, events.TaskAnswered)}


def how_to_answer(question: Question, store: str, *, only: bool) -> str:
    """The command that answers a question; ``only`` if no path is needed."""
    path = "" if only else f" {question.path}"
    flags, others = _flags(question.task)
    return f"cadenza answer {question.run_id}{path} {flags}{store_flag(store)}" + (
        f"   (or {others})" if others else ""
    )


def _flags(task: HumanTask) -> tuple[str, str]:
    """The options of one answer, and what other answers there are."""
    match task.kind:
        case "approve":
            return "--approve", "--reject" if task.value is None else "--reject, or --approve --value JSON to change it"
        case "choose":
            first, *others = map(shlex.quote, task.options)
            return f"--choice {first}", ", ".join(others)
        case "resolve":
            return "--choice done --value JSON", "--choice not_done, or --choice failed"
        case "edit" | "respond":
            return "--value JSON", ""
