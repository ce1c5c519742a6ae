"""What a deploy would do to the runs that wait: each is replayed on the code of this process, and nothing is written.

A verdict is what the engine would do when the run is next taken up:

    goes_on     the journal fits the code
    blocks      the engine would refuse to go on (Nondeterminism and its like), and the run would wait for other code
    fails       the code comes to an error at once, which would fail the run and undo what it has done

The replay goes on with what the engine would begin with: letters that nobody has read yet, and timers that are due.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

from cadenza.durable import codec, commands, events
from cadenza.durable.define import find_workflow
from cadenza.durable.human import HumanTask
from cadenza.durable.ledger import Ledger
from cadenza.durable.machine import Machine
from cadenza.durable.path import UNDO
from cadenza.engine.clock import SystemClock
from cadenza.engine.mending import how_to_mend
from cadenza.engine.options import EngineOptions
from cadenza.engine.store import Filter, Letter, RunRow, Store
from cadenza.engine.watchdog import Watchdog, looked_after
from cadenza.errors import CadenzaError, Nondeterminism, UnknownName

OPEN = ("pending", "ready", "running", "waiting", "blocked")
RUNS_MAX = 10_000_000
STALL_S = EngineOptions().stall_s


class Verdict(msgspec.Struct, frozen=True):
    """What would become of one run.

    Attributes:
        path: the place in the run where journal and code part; empty if it is not known.
        expected: what the journal holds there. ``found`` is what the code does.
        where: ``file:line`` of the workflow code that waited when they parted; empty if it is not known.
        problem: the whole message. ``mend`` is what to do about it.
        note: of a run that goes on: what it would do otherwise than before.
    """

    run_id: str
    workflow: str
    status: str
    outcome: Literal["goes_on", "blocks", "fails"]
    path: str = ""
    expected: str = ""
    found: str = ""
    where: str = ""
    problem: str = ""
    mend: str = ""
    note: str = ""


def open_runs(store: Store) -> list[RunRow]:
    """Every run that has not ended, oldest first."""
    return store.runs(Filter(OPEN, limit=RUNS_MAX))[::-1]


def check_runs(
    store: Store, rows: list[RunRow], problems: Mapping[str, str] | None = None, stall_s: float = STALL_S
) -> Iterator[Verdict]:
    """A verdict for each run; to be read on one thread.

    Args:
        problems: of workflows by name, why their code could not be loaded.
        stall_s: for so many seconds a replay may go on without coming to rest.

    Raises:
        StoreUnavailable.
    """
    watchdog = Watchdog(SystemClock(), stall_s)
    with looked_after(watchdog, stall_s / 4):
        for row in rows:
            problem = (problems or {}).get(row.workflow, "")
            if problem:
                yield _blocks(row, problem, mend=f"put the workflow back under its name, {row.workflow}")
            else:
                yield _check(store, row, watchdog)


def _check(store: Store, row: RunRow, watchdog: Watchdog) -> Verdict:
    try:
        workflow = find_workflow(row.workflow)
    except UnknownName as error:
        return _blocks(row, str(error), mend=f"put the workflow back under its name, {row.workflow}")
    try:
        journal, letters = store.events(row.no, row.first_seq), store.letters(row.no)
    except CadenzaError as error:
        return _blocks(row, str(error))
    machine = Machine(workflow)
    try:
        watchdog.guard(machine, lambda: machine.replay(journal))
        said = machine.take_commands()
        note = _otherwise(machine, journal, _ending(said))
        if _ending(said) is None:
            watchdog.guard(machine, lambda: _arrive(machine, letters, Ledger.of(journal), journal))
            said += machine.take_commands()
        ending = _ending(said)
        if isinstance(ending, commands.Blocked):
            return _blocked_by(row, machine, journal, ending.error)
        if isinstance(ending, commands.Failed):
            problem = f"the workflow comes to {ending.failure}"
            return _of(row, "fails", where=_raised_at(ending), problem=problem, mend="mend the workflow's code")
        if machine.undoing and machine.cancel_reason is None and not _undoes(journal):
            undone = ", ".join(each.removesuffix(UNDO) for each in machine.waiting_for() if each.endswith(UNDO))
            problem = f"the workflow comes to an error, and would undo {undone}"
            return _of(row, "fails", problem=problem, mend="mend the workflow's code")
        return _of(row, "goes_on", note=note)
    except Exception as error:
        return _blocked_by(row, machine, journal, error)
    finally:
        machine.evict()


def _ending(said: list[commands.Command]) -> commands.Ending | None:
    return next((each.ending for each in said if isinstance(each, commands.Finish)), None)


def _undoes(journal: list[events.AnyEvent]) -> bool:
    """Whether the run had begun to undo what it did."""
    return any(isinstance(each, events.StepIntent) and each.path.endswith(UNDO) for each in journal)


def _arrive(machine: Machine, letters: list[Letter], ledger: Ledger, journal: list[events.AnyEvent]) -> None:
    """Deliver what waits in the inbox, and the timers that are due: what the engine would begin with.

    What comes of it is added to ``journal``.
    """
    now = max(SystemClock().now(), journal[-1].at)
    due = [path for path, each in machine.open.items() if _due(each.command, now)]
    answered: set[str] = set()
    for letter in letters:
        event = letter.event
        if machine.finished or letter.generation not in (-1, machine.generation):
            continue
        if isinstance(event, events.TaskAnswered):
            asked = machine.open.get(event.path)
            entry = ledger.at(event.path)
            if (entry is not None and entry.doubt) or asked is None or event.path in answered:
                continue  # an answer to a doubt lets the step go on, which is not tried here
            if not isinstance(asked.command, commands.OpenTask):
                continue
            answered.add(event.path)
        elif isinstance(event, events.CancelRequested) and machine.cancel_reason is not None:
            continue
        journal.append(events.stamped(event, now))
        machine.apply(journal[-1])
    for path in due:
        future = machine.open.get(path)
        if future is not None and isinstance(future.command, commands.StartTimer) and not machine.finished:
            journal.append(events.TimerFired(at=now, path=path, fire_at=future.command.fire_at))
            machine.apply(journal[-1])


def _due(command: commands.Opened, now: int) -> bool:
    return isinstance(command, commands.StartTimer) and command.fire_at <= now


def _of(row: RunRow, outcome: Literal["goes_on", "blocks", "fails"], **fields: str) -> Verdict:
    return Verdict(row.run_id, row.workflow, row.shown_status, outcome, **fields)


def _blocks(row: RunRow, problem: str, **fields: str) -> Verdict:
    return _of(row, "blocks", problem=problem, **fields)


def _blocked_by(row: RunRow, machine: Machine, journal: list[events.AnyEvent], error: Exception) -> Verdict:
    if not isinstance(error, Nondeterminism):
        return _blocks(row, str(error) or type(error).__name__, where=getattr(error, "where", ""))
    branch = error.path.rpartition("/")[0]
    fn: Any = machine.workflow.fn
    begins = f"{fn.__code__.co_filename}:{fn.__code__.co_firstlineno}"
    return _blocks(
        row,
        str(error),
        path=error.path,
        expected=error.expected,
        found=error.found,
        where=machine.loop.line_in(f"{branch}/" if branch else "") or begins,
        mend=how_to_mend(machine, journal, error),
    )


def _raised_at(ending: commands.Failed) -> str:
    """``file:line`` of the last frame of the failure's traceback."""
    lines = [line for line in ending.failure.trace.splitlines() if line.startswith('  File "')]
    if not lines:
        return ""
    _, file, rest = lines[-1].split('"', 2)
    return f"{file}:{rest.removeprefix(', line ').partition(',')[0]}"


def _otherwise(machine: Machine, journal: list[events.AnyEvent], ending: commands.Ending | None) -> str:
    """What a run that fits would do otherwise than it does now."""
    last = journal[-1]
    if not isinstance(last, events.Parked):
        return ""
    if ending is not None:
        return f"it would not wait any more: {type(ending).__name__.lower()}"
    before, now = list(last.waiting), machine.waiting_for()
    gone, new = [each for each in before if each not in now], [each for each in now if each not in before]
    notes: list[str] = []
    if gone:
        notes.append(f"it would no longer wait for {', '.join(gone[:3])}")
    if new:
        notes.append(f"it would go on to {', '.join(new[:3])}")
    due = [each.command.fire_at for each in machine.open.values() if isinstance(each.command, commands.StartTimer)]
    if not notes and last.wake_at and due and min(due) != last.wake_at:
        hours = (min(due) - last.wake_at) / 3_600_000_000
        notes.append(f"its timer would fire {abs(hours):.2f} hours {'later' if hours > 0 else 'earlier'}")
    notes += _reworded(machine, journal)
    return "; ".join(notes)


def _reworded(machine: Machine, journal: list[events.AnyEvent]) -> list[str]:
    """Open questions that the code words otherwise now."""
    asked = {each.path: each.task for each in journal if isinstance(each, events.TaskOpened)}
    found: list[str] = []
    for path, future in machine.open.items():
        command = future.command
        if isinstance(command, commands.OpenTask) and path in asked:
            now = codec.encode(command.task, HumanTask, "the task")
            if now != asked[path] and codec.decode(asked[path], Any, "the task") != codec.decode(now, Any, "the task"):
                found.append(f"the question at {path} is worded otherwise now; it stays as it was asked")
    return found[:3]
