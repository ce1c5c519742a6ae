"""Fork: a new run that goes on from the middle of another (design.md, rule 15).

The new run's journal is a copy of the origin's, up to before the outcome of one path; outcomes may be given instead of
those that were had. It is a run of its own: its idempotency keys, its children and its randomness are new from there
on, and the origin is not touched. What the origin was waiting for, the fork waits for anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cadenza.durable import events
from cadenza.durable.define import find_workflow
from cadenza.durable.path import is_path
from cadenza.engine.dispatch import new_run
from cadenza.engine.handle import RunHandle
from cadenza.engine.offspring import Offspring
from cadenza.engine.redoing import done_again
from cadenza.engine.run_id import new_run_id
from cadenza.engine.splice import Cut, Splice, Spliced
from cadenza.engine.store import Create, NewRun, Replaced, RunRow, perform
from cadenza.errors import UnknownName, UsageError

if TYPE_CHECKING:
    from cadenza.engine.engine import Engine

REDO = "Say redo_irreversible=True (--redo-irreversible) if that is meant, or give their outputs."


async def fork(
    engine: Engine,
    run_id: str,
    *,
    at: str | int = "",
    outputs: Mapping[str, Any] | None = None,
    redo_irreversible: bool = False,
) -> RunHandle[Any]:
    """Start a new run from the middle of ``run_id``, which must not be running at the moment.

    Args:
        at: the path whose outcome is left out, with all that came of it; or the number of the first event that is not
            copied. By default the first path of ``outputs``.
        outputs: values instead of the outcomes of these paths: a step's result, a child run's, a person's Answer.
        redo_irreversible: whether irreversible work that the origin did after that may be done again by the fork.

    Returns:
        A handle to the new run. It is ready; a worker takes it up.

    Raises:
        UnknownName: no such run or path. InputInvalid: an output does not fit.
        UsageError: the run is running; irreversible work would be done again; what the fork counts on was undone.
        WorkflowBug: the code of this process does not fit the run's journal.
    """
    row = engine.find(run_id)
    if row.status == "running":
        raise UsageError(
            f"run {row.run_id} is running. Fork it when it waits, is blocked or has ended; or cut it short: "
            f"cadenza reset {row.run_id} --to PATH"
        )
    given = dict(outputs or {})
    if at == "" and not given:
        raise UsageError("a fork needs a path to begin at, or an output to begin with")
    journal = engine.store.events(row.no, row.first_seq)
    cut = cut_at(engine, row, journal, at if at != "" else _first(journal, given))
    spliced, children = splice(engine, row, journal, cut, given, redo_irreversible=redo_irreversible)
    return await create(engine, row, spliced, children=children)


def splice(
    engine: Engine,
    row: RunRow,
    journal: list[events.AnyEvent],
    cut: Cut,
    outputs: Mapping[str, Any],
    *,
    redo_irreversible: bool,
) -> tuple[Spliced, list[NewRun]]:
    """The new run's journal, and its children that go on; nothing is written. Raises as ``fork`` does."""
    now = engine.clock.now()
    workflow = find_workflow(row.workflow)
    spliced = Splice(engine.store, row, journal, workflow, cut, outputs).make(new_run_id(now, engine.chance), now)
    refuse_undone(row, spliced)
    offspring = Offspring(engine.store, now)
    continued = offspring.of(row, spliced, cut)
    if not redo_irreversible:
        refuse_done_again([*done_again(engine.store, journal, spliced, continued), *offspring.done_again])
    return spliced, [as_new(old, each) for each, old in offspring.continued] + offspring.begun


def refuse_undone(row: RunRow, spliced: Spliced) -> None:
    """Raises UsageError if the new run would count on what the old one has undone."""
    if spliced.undone:
        raise UsageError(
            f"{', '.join(spliced.undone)} was undone when run {row.run_id} ended, and a run from after it would count "
            f"on what is no longer there. Fork at {spliced.undone[0]} or before it, or give its output"
        )


def refuse_done_again(again: list[str]) -> None:
    """Raises UsageError if there is irreversible work that the new run would do again."""
    if again:
        more = " …" if len(again) > 5 else ""
        raise UsageError(f"irreversible work would be done again: {', '.join(again[:5])}{more}. {REDO}")


async def create(
    engine: Engine,
    row: RunRow,
    spliced: Spliced,
    business_id: str = "",
    children: Sequence[NewRun] = (),
    instead_of: Sequence[Replaced] = (),
) -> RunHandle[Any]:
    """Write the new run with its whole journal, in one operation; ``business_id`` is taken from whoever has it.

    Raises:
        UsageError: there is a run of its run id. Fenced: one of ``instead_of`` has gone on meanwhile.
    """
    new = as_new(row, spliced, business_id=business_id, on_conflict="replace")
    made, is_new = await perform(engine.store, Create(new, tuple(children), tuple(instead_of)))
    if not is_new:
        raise UsageError(f"run {row.run_id} was retried already: run {made.run_id} is {made.shown_status}")
    return await engine.resume(made.run_id)


def as_new(row: RunRow, spliced: Spliced, **options: Any) -> NewRun:
    """A run that goes on from ``row`` with this journal."""
    return new_run(spliced.started, row.priority, history=spliced.history, **options)


def cut_at(engine: Engine, row: RunRow, journal: list[events.AnyEvent], at: str | int, how: str = "fork") -> Cut:
    """Where ``at`` is in ``journal``, the run's current generation. Raises UnknownName, UsageError."""
    keeps = how != "fork"
    if isinstance(at, int) or at.isdecimal():
        index = int(at) - row.first_seq
        if not 0 < index <= _end(journal):
            last = row.first_seq + _end(journal)
            raise UsageError(
                f"{at} is no event of the current generation from which a run can go on: take {row.first_seq + 1} "
                f"to {last}"
            )
        path: str = getattr(journal[index], "path", "") if index < len(journal) else ""
        return Cut(index, path, late="nothing", keep_messages=keeps, how=how)
    for index, event in enumerate(journal):
        if isinstance(event, events.Outcome) and getattr(event, "path", "") == at:
            return Cut(index, at, keep_messages=keeps, how=how)
    known = paths_of(journal)
    if at in known:
        return Cut(_end(journal), at, keep_messages=keeps, how=how)
    earlier = engine.store.events(row.no)[: row.first_seq - 1]
    if at in paths_of(earlier):
        raise UsageError(
            f"{at} was in an earlier generation of run {row.run_id}, before it continued as new; only the current one "
            f"({row.generation}) can be forked"
        )
    hint = f"See them with: cadenza show {row.run_id}" if is_path(at) else "A path is as in charge#1 or b2/fetch#3."
    raise UnknownName("path of this run", at, known, hint)


def paths_of(journal: list[events.AnyEvent]) -> set[str]:
    """What a journal speaks of."""
    found = {getattr(each, "path", "") for each in journal}
    parked = [each for each in journal if isinstance(each, events.Parked)]
    found |= set(parked[-1].waiting) if parked else set()
    return found - {""}


def _first(journal: list[events.AnyEvent], outputs: Mapping[str, Any]) -> str:
    """Of these paths the one that had its outcome first."""
    for event in journal:
        path: str = getattr(event, "path", "")
        if isinstance(event, events.Outcome) and path in outputs:
            return path
    return next(iter(outputs))


def _end(journal: list[events.AnyEvent]) -> int:
    """How many events there are without the one that ended the run."""
    return len(journal) - isinstance(journal[-1], events.TERMINALS)
