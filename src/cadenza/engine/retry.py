"""Going on after a failure (``retry``), and from an earlier place (``reset``): forks that take over the business id.

A journal is only ever added to, and how a run has ended is part of it. So a run that goes on is a new one, as with
Temporal's reset: it has a run id of its own, and whoever knows the run by its business id finds the new one. As with
the redrive of Step Functions, what succeeded is not done again, also not in branches beside the failure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from cadenza.durable import commands, events
from cadenza.durable.failure import Failure
from cadenza.durable.path import UNDO
from cadenza.engine.fork import create, cut_at, splice
from cadenza.engine.handle import RunHandle
from cadenza.engine.splice import Cut
from cadenza.engine.store import Filter, RunRow
from cadenza.errors import CadenzaError, UsageError

if TYPE_CHECKING:
    from cadenza.engine.engine import Engine

NAMING_A_PATH = ("cadenza.errors:StepError", "cadenza.errors:ChildError")
"""Failures whose first argument is the path at which they arose."""


async def retry(engine: Engine, run_id: str, *, redo_irreversible: bool = False) -> RunHandle[Any]:
    """Go on with a failed or cancelled run from where it failed or was cancelled, as a new run.

    The step that failed is attempted again with all its attempts, and keeps its sub-results. If the run has undone what
    it had done, the new one begins at the first step that was undone. Messages are received again.

    Returns:
        A handle to the new run, which has taken over the business id.

    Raises:
        UnknownName: no such run.
        UsageError: it has not failed; it is a child run; irreversible work would be done again.
        WorkflowBug: the code of this process does not fit the run's journal.
    """
    row = engine.find(run_id)
    _refuse_child(row, "retried")
    if row.status not in ("failed", "cancelled"):
        instead = {
            "completed": f"fork it: cadenza fork {row.run_id} --at PATH",
            "blocked": "mend its code and resume it",
        }
        raise UsageError(
            f"run {row.run_id} is {row.shown_status}; only a failed or cancelled run can be retried. "
            f"Instead, {instead.get(row.status, 'wait for its end, or cancel it')}"
        )
    journal = engine.store.events(row.no, row.first_seq)
    cut = _cut(row, journal)
    spliced, new_id = splice(engine, row, journal, cut, {}, redo_irreversible=redo_irreversible)
    if isinstance(spliced.ending, commands.Failed):
        raise UsageError(
            f"run {row.run_id} would fail at once in the same way: it is the workflow's own code that comes to "
            f"{spliced.ending.failure}. Mend it, then retry"
        )
    return await create(engine, row, spliced, new_id, row.business_id)


async def retry_all(
    engine: Engine, run_ids: Iterable[str], *, redo_irreversible: bool = False
) -> list[tuple[str, RunHandle[Any] | CadenzaError]]:
    """Retry several runs: for each the new run, or why there is none."""
    done: list[tuple[str, RunHandle[Any] | CadenzaError]] = []
    for run_id in run_ids:
        try:
            done.append((run_id, await retry(engine, run_id, redo_irreversible=redo_irreversible)))
        except CadenzaError as error:
            done.append((run_id, error))
    return done


async def reset(
    engine: Engine,
    run_id: str,
    *,
    to: str | int,
    outputs: Mapping[str, Any] | None = None,
    redo_irreversible: bool = False,
) -> RunHandle[Any]:
    """Let a run go on from an earlier place, as a new run that takes over the business id.

    If the run has not ended, it is ended without its code, since what it did before ``to`` is to stay done; so are its
    child runs. Messages that it got since are received again.

    Args:
        to: see ``at`` of ``fork``, as ``outputs`` and ``redo_irreversible``.

    Raises:
        As ``fork``; and UsageError for a child run.
    """
    row = engine.find(run_id)
    _refuse_child(row, "reset")
    journal = engine.store.events(row.no, row.first_seq)
    given = dict(outputs or {})
    cut = cut_at(engine, row, journal, to, "reset")
    spliced, new_id = splice(engine, row, journal, cut, given, redo_irreversible=redo_irreversible)
    if not row.ended:
        for each in _family(engine, row):
            await engine.cancel(each.run_id, f"reset: run {new_id} goes on", force=True)
        journal = engine.store.events(row.no, row.first_seq)  # it may have gone on until a moment ago
        cut = cut_at(engine, row, journal, to, "reset")
        spliced, new_id = splice(engine, row, journal, cut, given, redo_irreversible=redo_irreversible)
    return await create(engine, row, spliced, new_id, row.business_id)


def _refuse_child(row: RunRow, what: str) -> None:
    if row.parent:
        raise UsageError(
            f"run {row.run_id} is a child run, and its parent would not hear of the new one: it is {what} with run "
            f"{row.root}. Or fork it, as a run of its own"
        )


def _family(engine: Engine, row: RunRow) -> list[RunRow]:
    """A run and its descendants, as far as they have not ended; parents first, so that none hears of a child's end."""
    found = [row]
    for parent in found:  # grows while it is read
        found += engine.runs(Filter(parent=parent.run_id, limit=1_000_000))
    return [each for each in found if not each.ended]


def _cut(row: RunRow, journal: list[events.AnyEvent]) -> Cut:
    """Before what ended the run; and before the first step that was undone then."""
    index, path = _what_ended(journal)
    undone = _undone(journal, index)
    if undone is None:
        return Cut(index, path, late="everything", keep_memos=True, keep_messages=True, how="retry")
    return Cut(*undone, late="everything", keep_messages=True, how="retry")


def _what_ended(journal: list[events.AnyEvent]) -> tuple[int, str]:
    """The event that ended the run, and its path; the last event if it was the workflow's own code."""
    last = journal[-1]
    if isinstance(last, events.RunFailed):
        for path in _paths_in(last.failure):
            for index, event in enumerate(journal):
                if isinstance(event, events.Outcome) and getattr(event, "path", "") == path:
                    return index, path
    else:
        for index, event in enumerate(journal):
            if isinstance(event, events.CancelRequested):
                return index, ""
    return len(journal) - 1, ""


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
