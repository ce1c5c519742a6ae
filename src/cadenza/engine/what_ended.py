"""What ended a run: where a run that goes on after a failure or a cancellation leaves the journal of the old one."""

from __future__ import annotations

import msgspec

from cadenza.durable import events
from cadenza.durable.failure import Failure
from cadenza.durable.path import UNDO
from cadenza.engine.splice import Cut

NAMING_A_PATH = ("cadenza.errors:StepError", "cadenza.errors:ChildError")
"""Failures whose first argument is the path at which they arose."""
FAILING = (events.StepFailed, events.ChildEnded, events.MessageSent)


def cut_before_end(journal: list[events.AnyEvent]) -> Cut:
    """Before what ended the run; and before the first step that was undone then."""
    index, path = _what_ended(journal)
    undone = _undone(journal, index)
    if undone is None:
        return Cut(index, path, late="everything", keep_memos=True, keep_messages=True, how="retry")
    return Cut(*undone, late="everything", keep_messages=True, how="retry")


def _what_ended(journal: list[events.AnyEvent]) -> tuple[int, str]:
    """The event that ended the run, and its path: a failed outcome, a deadline, or a cancellation; the last event if it
    was the workflow's own code."""
    last = journal[-1]
    if isinstance(last, events.RunFailed):
        failed = {each.path: index for index, each in enumerate(journal) if isinstance(each, FAILING) and _failed(each)}
        for path in _paths_in(last.failure):
            if path in failed:
                return failed[path], path
        fired = [index for index, each in enumerate(journal) if isinstance(each, events.TimerFired)]
        if fired and "builtins:TimeoutError" in _kinds(last.failure):
            return fired[-1], ""
    else:
        for index, event in enumerate(journal):
            if isinstance(event, events.CancelRequested):
                return index, ""
    return len(journal) - 1, ""


def _failed(event: events.StepFailed | events.ChildEnded | events.MessageSent) -> bool:
    return isinstance(event, events.ChildEnded) or event.failure is not None


def _kinds(failure: Failure | None) -> list[str]:
    """The types of a failure and its causes."""
    return [] if failure is None else [failure.type, *_kinds(failure.cause)]


def _paths_in(failure: Failure | None) -> list[str]:
    """The paths that a failure and its causes name, the innermost last."""
    found: list[str] = []
    while failure is not None:
        if failure.type in NAMING_A_PATH and failure.details:
            found += [each for each in msgspec.json.decode(failure.details)[:1] if isinstance(each, str)]
        failure = failure.cause
    return found


def _undone(journal: list[events.AnyEvent], before: int) -> tuple[int, str] | None:
    """Of the steps that were undone, the first that had its outcome before the event ``before``."""
    begun = {
        each.path.removesuffix(UNDO) for each in journal if isinstance(each, events.StepIntent) and UNDO in each.path
    }
    for index, event in enumerate(journal[:before]):
        if isinstance(event, events.StepCompleted) and event.path in begun:
            return index, event.path
    return None
