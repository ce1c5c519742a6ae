"""Going on after a failure (``retry``), and from an earlier place (``reset``): forks that take over the business id.

A journal is only ever added to, and how a run has ended is part of it. So a run that goes on is a new one, as with
Temporal's reset: it has a run id of its own, and whoever knows the run by its business id finds the new one. As with
the redrive of Step Functions, what succeeded is not done again, also not in branches beside the failure.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cadenza.durable import commands
from cadenza.durable.children import child_run_id
from cadenza.durable.define import find_workflow
from cadenza.engine.fork import as_new, create, cut_at, refuse_done_again, refuse_undone, splice
from cadenza.engine.handle import RunHandle
from cadenza.engine.redoing import done_again
from cadenza.engine.run_id import new_run_id
from cadenza.engine.splice import Splice, Spliced
from cadenza.engine.store import Filter, Replaced, RunRow
from cadenza.engine.what_ended import cut_before_end
from cadenza.errors import Fenced, UsageError

if TYPE_CHECKING:
    from cadenza.engine.engine import Engine

ATTEMPTS_MAX = 50
AGAIN_S = 0.02


async def retry(engine: Engine, run_id: str, *, redo_irreversible: bool = False) -> RunHandle[Any]:
    """Go on with a failed or cancelled run from where it failed or was cancelled, as a new run.

    The step that failed is attempted again with all its attempts, and keeps its sub-results; a child run that failed
    goes on from its own failure. If the run has undone what it had done, the new one begins at the first step that was
    undone. Messages are received again. A run is retried once; after that, its retry is.

    Returns:
        A handle to the new run, which has taken over the business id.

    Raises:
        UnknownName: no such run.
        UsageError: it has not failed; it was retried already; it is a child run, or has one that goes on; irreversible
            work would be done again.
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
    (spliced, _), *children = _Continuation(engine, redo_irreversible=redo_irreversible).of(row, _next_id(row))
    return await create(engine, row, spliced, row.business_id, [as_new(old, each) for each, old in children])


def _next_id(row: RunRow) -> str:
    """The run id of a run's retry: always the same, so that a run is retried once, however often that is asked for."""
    return new_run_id(row.ended_at, random.Random(f"retry of {row.run_id}"))


class _Continuation:
    """Makes the journals of a retried run and of its children that failed or were cancelled with it."""

    def __init__(self, engine: Engine, *, redo_irreversible: bool) -> None:
        self._engine, self._redo = engine, redo_irreversible

    def of(self, row: RunRow, run_id: str, parent: str = "", path: str = "") -> list[tuple[Spliced, RunRow]]:
        """The journal of ``run_id``, which goes on from ``row``, and those of its children; each with its origin."""
        store = self._engine.store
        if (before := store.run(run_id)) is not None:
            raise UsageError(f"run {row.run_id} was retried already: run {before.run_id} is {before.shown_status}")
        journal = store.events(row.no, row.first_seq)
        splice = Splice(store, row, journal, find_workflow(row.workflow), cut_before_end(journal), {})
        spliced = splice.make(run_id, self._engine.clock.now(), parent, path)
        if isinstance(spliced.ending, commands.Failed):
            raise UsageError(
                f"run {row.run_id} would fail at once in the same way: it is the workflow's own code that comes to "
                f"{spliced.ending.failure}. Mend it, then retry"
            )
        refuse_undone(row, spliced)
        old = {each.path: store.run(each.run_id) for each in spliced.open if isinstance(each, commands.StartChild)}
        if not self._redo:
            refuse_done_again(done_again(store, journal, spliced, old))
        found = [(spliced, row)]
        for at, child in old.items():
            if child is not None:
                found += self._of_child(row, child, child_run_id(run_id, spliced.started.generation, at), run_id, at)
        return found

    def _of_child(self, row: RunRow, child: RunRow, run_id: str, parent: str, at: str) -> list[tuple[Spliced, RunRow]]:
        if not child.ended:
            raise UsageError(
                f"child run {child.run_id} of run {row.run_id} goes on. Wait for its end, which the retry will know "
                "of, or cancel it"
            )
        return self.of(child, run_id, parent, at)


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
    child runs. That is one transaction with the new run: after a crash there is the old run or the new one. Messages
    that it got since are received again.

    Args:
        to: see ``at`` of ``fork``, as ``outputs`` and ``redo_irreversible``.

    Raises:
        As ``fork``; and UsageError for a child run, or one that never stands still.
    """
    for _ in range(ATTEMPTS_MAX):
        row = engine.find(run_id)
        _refuse_child(row, "reset")
        old = [] if row.ended else [_as_it_is(engine, each, f"reset to {to}") for each in _family(engine, row)]
        journal = engine.store.events(row.no, row.first_seq)
        cut = cut_at(engine, row, journal, to, "reset")
        spliced, children = splice(engine, row, journal, cut, dict(outputs or {}), redo_irreversible=redo_irreversible)
        try:
            handle = await create(engine, row, spliced, row.business_id, children, old)
        except Fenced:
            await asyncio.sleep(AGAIN_S)
            continue
        for each in old:
            if engine.worker is not None and (runner := engine.worker.runners.get(each.no)) is not None:
                runner.lose(runner.row.epoch + 1)
        return handle
    raise UsageError(
        f"run {run_id} goes on faster than it can be reset. Nothing was changed. Cancel it (cadenza cancel {run_id} "
        "--force), then reset it"
    )


def _as_it_is(engine: Engine, row: RunRow, reason: str) -> Replaced:
    """A run that is to be ended as it is now, and not if it has gone on or got a letter."""
    return Replaced(row.no, row.run_id, len(engine.store.events(row.no)), len(engine.store.letters(row.no)), reason)


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
