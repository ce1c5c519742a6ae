"""Outcomes that a person gives, instead of those that a run had."""

from __future__ import annotations

from typing import Any

from cadenza.durable import codec, commands, events
from cadenza.durable.define import find_workflow
from cadenza.durable.delivery import describe
from cadenza.durable.human import Answer, check_answer
from cadenza.errors import UsageError

BY = "given"


def given_outcome(command: commands.Opened, value: Any, at: int) -> events.Outcome:
    """The outcome of ``command`` with this value, which must be one that it could have had.

    Raises:
        InputInvalid: it does not fit the type. UsageError: a timer or a message has no output.
    """
    what = f"the output that is given for {command.path}"
    match command:
        case commands.RunStep(step=step):
            raw = _encode(value, step.types["return"], what)
            return events.StepCompleted(
                at=at, path=command.path, name=step.name, input_hash=command.input_hash, value=raw, done_by=BY
            )
        case commands.OpenTask(task=task):
            answer = codec.coerce(value, Answer, what)
            check_answer(task, answer)
            return events.TaskAnswered(at=at, path=command.path, answer=codec.encode(answer, Answer, what))
        case commands.StartChild(name=name, run_id=run_id):
            raw = _encode(value, find_workflow(name).output_type, what)
            return events.ChildEnded(at=at, path=command.path, run_id=run_id, status="completed", value=raw)
        case commands.AwaitChild(run_id=run_id):
            raw = _encode(value, Any, what)
            return events.ChildEnded(at=at, path=command.path, run_id=run_id, status="completed", value=raw)
        case _:
            raise UsageError(
                f"{command.path} is {describe(command)}; an output can be given for a step, a question or a child run"
            )


def _encode(value: Any, annotation: Any, what: str) -> bytes:
    return codec.encode(codec.coerce(value, annotation, what), annotation, what)
