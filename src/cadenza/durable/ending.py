"""How a run ends: what its code returned or raised becomes an ending, after what there is to undo is undone.

it returned              Completed
ContinuedAsNew           Continued, also out of a task group
a mistake (MISTAKES)     Blocked: a deploy mends it, and nothing is undone (ADR 0006)
it was cancelled         everything is undone, then Cancelled
anything else            everything is undone, then Failed
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from cadenza.durable import codec, commands, events
from cadenza.durable.commands import Ending
from cadenza.durable.define import WorkflowFunction
from cadenza.durable.failure import Failure
from cadenza.errors import (
    CompensationError,
    ContinuedAsNew,
    DefinitionError,
    Evicted,
    InputInvalid,
    Nondeterminism,
    NotSerialisable,
    PayloadTooLarge,
    UnknownName,
    UsageError,
    WorkflowBug,
)

if TYPE_CHECKING:
    from cadenza.durable.context import Context
    from cadenza.durable.machine import Machine

MISTAKES = (WorkflowBug, DefinitionError, UnknownName, NotSerialisable, PayloadTooLarge)
"""Errors that a deploy mends: they block the run, where other exceptions fail it (ADR 0006)."""


async def run_workflow(machine: Machine, ctx: Context, raw_input: bytes) -> Ending:
    """Run workflow code to its end. Raises nothing but Evicted."""
    workflow = machine.workflow
    try:
        arguments: list[Any] = [ctx]
        if workflow.takes_input:
            arguments.append(_decode_input(workflow, raw_input))
        result = await workflow.fn(*arguments)
        return commands.Completed(codec.encode(result, workflow.output_type, f"the result of {workflow.label}"))
    except GeneratorExit:  # a machine that was dropped without being evicted
        raise
    except BaseException as error:  # SystemExit and the like must not leave the machine
        ending = _ending_of(machine, error)
    if not isinstance(ending, commands.Failed | commands.Cancelled):
        return ending
    try:
        return await _undo_all(machine, ending)
    except MISTAKES as bug:
        return commands.Blocked(str(bug), bug)


def _decode_input(workflow: WorkflowFunction[..., Any], raw: bytes) -> Any:
    try:
        return codec.decode(raw, workflow.input_type, f"the input of {workflow.label}")
    except InputInvalid as error:
        raise Nondeterminism("an input that fits its type", str(error), "The type of the input changed.") from error


def _ending_of(machine: Machine, error: BaseException) -> Ending:
    errors = list(_leaves(error))
    if any(isinstance(each, Evicted) for each in errors):
        raise Evicted from None
    again = [each for each in errors if isinstance(each, ContinuedAsNew)]
    if len(again) == len(errors):
        try:
            return commands.Continued(machine.workflow.encode_input(again[0].state))
        except UsageError as mistake:
            return commands.Blocked(str(mistake), mistake)
    bug = next((each for each in errors if isinstance(each, MISTAKES)), None)
    if bug is not None:
        return commands.Blocked(str(bug), bug)
    if isinstance(error, asyncio.CancelledError) and machine.cancel_reason is not None:
        return commands.Cancelled(machine.cancel_reason)
    return commands.Failed(Failure.of(error))


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions of a group, however deep; else the exception itself."""
    if isinstance(error, BaseExceptionGroup):
        for each in cast("BaseExceptionGroup[BaseException]", error).exceptions:
            yield from _leaves(each)
    else:
        yield error


async def _undo_all(machine: Machine, ending: commands.Failed | commands.Cancelled) -> Ending:
    """Stop whatever else is at work, then undo, last first; also what gets in doubt meanwhile."""
    undone: list[str] = []
    left: list[str] = []
    machine.stop_others()
    while machine.undo.entries():
        await machine.undo.unwind(undone, left)
        machine.leave_compensatable()
    if not left:
        return ending
    was_cancelled = isinstance(ending, commands.Cancelled)
    reason = "the run was cancelled" if was_cancelled else str(ending.failure)
    failure = Failure.of(CompensationError(reason, undone, left))
    if was_cancelled:
        return commands.Cancelled(ending.reason, failure)
    return commands.Failed(Failure(failure.type, failure.message, failure.details, cause=ending.failure))


def check_ending(event: events.Terminal, ending: Ending | None, workflow: WorkflowFunction[..., Any]) -> None:
    """Whether a journal's last event is how its code ends now (``None``: it still waits). Raises Nondeterminism."""
    if isinstance(event, events.RunCancelled):
        return  # a run may be cancelled from outside, without its code's help
    expected = type(event).__name__.removeprefix("Run").lower()
    found = "a run that is still waiting" if ending is None else type(ending).__name__.lower()
    if expected != found:
        raise Nondeterminism(expected, found)
    if not isinstance(event, events.RunCompleted) or not isinstance(ending, commands.Completed):
        return
    if event.value != ending.value and not _equal(event.value, ending.value, workflow):
        raise Nondeterminism(f"the result {event.value[:200]!r}", f"the result {ending.value[:200]!r}")


def _equal(one: bytes, other: bytes, workflow: WorkflowFunction[..., Any]) -> bool:
    """Whether two results are the same value: a set has no order, though its JSON has one."""
    try:
        return bool(codec.decode(one, workflow.output_type, "") == codec.decode(other, workflow.output_type, ""))
    except InputInvalid:
        return False
