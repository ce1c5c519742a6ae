"""How an outcome reaches workflow code: does it fit the open command, and what value or exception does it become."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from cadenza.durable import codec, commands, events
from cadenza.durable.human import Answer
from cadenza.errors import ChildError, InputInvalid, Nondeterminism, StepError

Delivery = Callable[[Any, Any], None]
"""Settles a future with an event: ``deliver(future, event)``."""

_FITS: dict[type[Any], type[Any] | tuple[type[Any], ...]] = {
    events.TaskAnswered: commands.OpenTask,
    events.MemoIntent: commands.RunStep,
    events.MemoSaved: commands.RunStep,
    events.MemosDiscarded: commands.RunStep,
    events.ChildEnded: (commands.StartChild, commands.AwaitChild),
}


_HASHED = (events.StepCompleted, events.StepFailed, events.StepIntent)


def fits(command: commands.Opened, event: events.AnyEvent) -> bool:
    """Whether ``event`` can be the outcome of ``command``, or its beginning: kind, name and input hash agree."""
    if type(event) in _HASHED:
        return (
            type(command) is commands.RunStep
            and command.step.name == event.name  # type: ignore[union-attr]  # its type was looked at: quicker than isinstance
            and command.input_hash == event.input_hash  # type: ignore[union-attr]  # likewise
        )
    match event:
        case events.AttemptFailed(name=name, input_hash=given):
            return isinstance(command, commands.RunStep) and command.name == name and given in ("", command.input_hash)
        case events.OutcomeInDoubt(name=name):
            return isinstance(command, commands.RunStep) and command.name == name
        case events.TimerFired(fire_at=fire_at):
            return isinstance(command, commands.StartTimer) and fire_at in (0, command.fire_at)
        case events.TaskOpened(input_hash=given):
            return isinstance(command, commands.OpenTask) and given in ("", command.input_hash)
        case events.ChildStarted(run_id=run_id, workflow=name, input_hash=given):
            if not isinstance(command, commands.StartChild):
                return False
            return (command.run_id, command.name) == (run_id, name) and given in ("", command.input_hash)
        case events.MessageSent(to=to, input_hash=given):
            return isinstance(command, commands.SendMessage) and command.to == to and given in ("", command.input_hash)
        case _:
            return isinstance(command, _FITS.get(type(event), ()))


def describe(what: commands.Opened | events.AnyEvent) -> str:
    """What a command asks for, or an event answers, for a message to people."""
    match what:
        case commands.RunStep(name=name, input_hash=given) | events.StepCompleted(name=name, input_hash=given):
            return f"step {name} (input {given})"
        case events.StepFailed(name=name, input_hash=given) | events.StepIntent(name=name, input_hash=given):
            return f"step {name} (input {given})"
        case events.AttemptFailed(name=name, input_hash=given):
            return f"step {name}" + (f" (input {given})" if given else "")
        case events.OutcomeInDoubt(name=name):
            return f"step {name}"
        case commands.StartTimer(fire_at=fire_at) | events.TimerFired(fire_at=fire_at):
            return "a timer" + (
                f" (due {datetime.fromtimestamp(fire_at / 1_000_000, UTC).isoformat()})" if fire_at else ""
            )
        case commands.AwaitMessage(name=name) | events.MessageReceived(name=name):
            return f"message {name!r}"
        case commands.SendMessage(to=to, input_hash=given) | events.MessageSent(to=to, input_hash=given):
            return f"a message to {to}" + (f" (value {given})" if given else "")
        case commands.OpenTask(task=task, input_hash=given):
            return f"a person's answer to {task.title!r} (question {given})"
        case events.TaskOpened(input_hash=given):
            return "a person's answer" + (f" (question {given})" if given else "")
        case events.TaskAnswered():
            return "a person's answer"
        case commands.StartChild(name=name, input_hash=given) | events.ChildStarted(workflow=name, input_hash=given):
            return f"child run {name}" + (f" (input {given})" if given else "")
        case commands.AwaitChild(run_id=run_id) | events.ChildEnded(run_id=run_id):
            return f"child run {run_id}"
        case _:
            return type(what).__name__


def step_outcome(future: Any, event: events.StepCompleted | events.StepFailed) -> None:
    """The step's value as its type; or its declared exception; or StepError."""
    command: commands.RunStep = future.command
    step = command.step
    if isinstance(event, events.StepCompleted):
        if step.undo is not None:
            future.machine.undo.note(command, event.value)
        try:
            if step.restore is None:
                value = step.result.decode(event.value, "the recorded value")
            else:
                value = step.restore(event.value, future.machine.memos.take(event.path), command.args)
        except InputInvalid as error:
            raise _unfit(event.path, error) from error
        future.set_result(value)
        return
    if event.in_doubt:
        future.machine.undo.left_in_doubt(command)
    declared = event.failure.rebuild(step.settings.raises)
    error = StepError(event.path, step.label, event.attempt, event.failure)
    if declared is not None:
        declared.__cause__ = error
    future.set_exception(declared or error)


def sent(future: Any, event: events.MessageSent) -> None:
    """A message is in the other run's inbox, or could not be put there."""
    if event.failure is None:
        future.set_result(None)
    else:
        future.set_exception(StepError(event.path, f"send to {event.to}", 1, event.failure))


def message(annotation: Any) -> Delivery:
    """The message's value, as ``annotation``; one that does not fit is an error at the await."""

    def deliver(future: Any, event: events.MessageReceived | events.Letter) -> None:
        try:
            future.set_result(codec.decode(event.value, annotation, f"the message {event.name!r}"))
        except InputInvalid as error:
            future.set_exception(error)

    return deliver


def answer(future: Any, event: events.TaskAnswered) -> None:
    """A person's answer."""
    future.set_result(_decoded(event.answer, Answer, event))


def child(annotation: Any) -> Delivery:
    """The child's result as its type, or ChildError."""

    def deliver(future: Any, event: events.ChildEnded) -> None:
        if event.status == "completed":
            future.set_result(_decoded(event.value, annotation, event))
        else:
            future.set_exception(ChildError(event.path, event.run_id, event.status, event.failure))

    return deliver


def _decoded(raw: bytes, annotation: Any, event: Any) -> Any:
    try:
        return codec.decode(raw, annotation, f"the recorded outcome at {event.path}")
    except InputInvalid as error:
        raise _unfit(event.path, error) from error


def _unfit(path: str, error: InputInvalid) -> Nondeterminism:
    return Nondeterminism(
        f"a recorded outcome at {path} that fits its type",
        str(error),
        "The type of the result changed. Give new fields a default, or deploy the old code again.",
        path,
    )
