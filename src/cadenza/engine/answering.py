"""Whether an answer can be taken."""

from __future__ import annotations

from collections.abc import Iterable

from cadenza.durable import codec, events
from cadenza.durable.define import find_step
from cadenza.durable.human import Answer, HumanTask, check_answer
from cadenza.engine.store import Letter, OpenTaskRow
from cadenza.errors import UnknownName, UsageError


def open_task(
    tasks: list[tuple[OpenTaskRow, HumanTask]], letters: Iterable[Letter], path: str, answer: Answer
) -> OpenTaskRow:
    """The open task at ``path``, if ``answer`` fits it.

    Raises:
        UnknownName: no such task is open (any more).
        UsageError: an answer waits to be read.
        InputInvalid: the answer does not fit.
    """
    found = {row.path: (row, task) for row, task in tasks}
    if path not in found:
        hint = "It may have been answered already." if found else "No question of this run is open."
        raise UnknownName("open task", path, found, hint)
    row, task = found[path]
    if any(isinstance(each.event, events.TaskAnswered) and each.event.path == path for each in letters):
        raise UsageError(f"{task.title!r} was answered a moment ago; run {row.run_id} has not read it yet")
    check_answer(task, answer)
    if task.kind == "resolve" and answer.choice == "done" and not task.details["memo"]:
        _check_found_result(task, answer)
    return row


def _check_found_result(task: HumanTask, answer: Answer) -> None:
    """The value that a person says an irreversible step had must be one that it could have had."""
    try:
        annotation = find_step(task.details["step"]).types["return"]
    except UnknownName:
        return
    if annotation is not None:
        codec.coerce(answer.value, annotation, "the result that you give")
