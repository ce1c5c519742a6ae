"""What must hold for every story of every workflow: the properties of the durable core.

Each function takes a story (world.py) and raises AssertionError where the property does not hold.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from cadenza.durable import commands, events, loop
from cadenza.durable.failure import Failure
from cadenza.durable.loop import DurableLoop, DurableTask
from cadenza.durable.machine import Machine
from tests.conformance.world import Story, open_in


def replay(story: Story, journal: list[events.AnyEvent]) -> Machine:
    """A fresh machine that has replayed ``journal``."""
    machine = Machine(story.shape.workflow, [])
    machine.replay(journal)
    return machine


def told(ending: commands.Ending | None) -> Any:
    """An ending without its traceback's text, to be compared."""

    def failed(failure: Failure | None) -> Any:
        return failure and (failure.type, failure.message, failure.details, failed(failure.cause))

    match ending:
        case commands.Completed(value=value):
            return "completed", value
        case commands.Failed(failure=failure):
            return "failed", failed(failure)
        case commands.Cancelled(reason=reason, failure=failure):
            return "cancelled", reason, failed(failure)
        case commands.Continued(input=raw):
            return "continued", raw
        case commands.Blocked(detail=detail):
            return "blocked", detail
        case None:
            return "waiting"


def ending_of(machine: Machine) -> Any:
    """How a machine has ended, from its last command."""
    for command in reversed(machine.take_commands()):
        if isinstance(command, commands.Finish):
            return told(command.ending)
    return told(None)


def a_crash_at_every_event_changes_nothing(story: Story) -> None:
    """Whatever was journaled when the process died: replay asks for exactly what had been asked for, in the same order
    (commands are prefix-stable), leaves the same open, and what follows has the same commands and the same end.
    """
    for life in story.lives:
        for count in range(1, len(life.journal) + 1):
            if any(count in unsaid for unsaid in life.unsaid):
                continue
            machine = replay(story, life.journal[:count])
            made, left_open = life.mark_at(count)
            where = f"{story}, generation {machine.generation}, after {count} events"
            assert machine.trace == life.trace[:made], f"{where}: {difference(life.trace[:made], machine.trace)}"
            assert open_in(machine) == left_open, where
            for event in life.journal[count:]:
                machine.apply(event)
            assert machine.trace == life.trace, f"{where}, gone on: {difference(life.trace, machine.trace)}"
            assert ending_of(machine) == told(life.ending), where
            assert machine.evict() == [], where


def a_whole_replay_is_the_same(story: Story) -> None:
    """The journal of each generation, replayed at once, gives the commands and the end that were lived."""
    for life in story.lives:
        machine = replay(story, life.journal)
        assert machine.trace == life.trace, f"{story}: {difference(life.trace, machine.trace or [])}"
        assert ending_of(machine) == told(life.ending), str(story)
        assert machine.evict() == []


def eviction_at_every_event_unwinds_everything(story: Story) -> None:
    """A machine that leaves memory asks for nothing more, whatever clean-up code does, and leaves no task."""
    for life in story.lives:
        for count in range(1, len(life.journal) + 1):
            machine = replay(story, life.journal[:count])
            machine.take_commands()
            made, was_open = list(machine.trace or []), open_in(machine)
            where = f"{story}, generation {machine.generation}, after {count} events"
            left = machine.evict()
            assert left == [], f"{where}: {left} would not end"
            assert machine.take_commands() == [], where
            assert machine.trace == made, where
            assert machine.finished or open_in(machine) == was_open, where
            assert not machine.loop._tasks, where  # pyright: ignore[reportPrivateUsage]


def nothing_is_asked_for_after_the_end(story: Story) -> None:
    """The last command is the end."""
    for life in story.lives:
        if life.end != "waiting":
            assert life.trace[-1].startswith("finish "), f"{story}: {life.trace[-1]}"
        assert sum(each.startswith("finish ") for each in life.trace) <= 1


def irreversible_work_is_waited_for(story: Story) -> None:
    """A generation does not end while something that must not be left alone is in flight."""
    for life in story.lives:
        if life.end in ("waiting", "blocked"):
            continue
        begun = {each.path for each in life.journal if isinstance(each, events.StepIntent)}
        ended = {each.path for each in life.journal if isinstance(each, events.StepCompleted | events.StepFailed)}
        assert begun <= ended, f"{story}: {begun - ended} were left alone"


def what_may_have_been_done_is_undone_once(story: Story) -> None:
    """A run that fails or is cancelled undoes all that is compensatable and may have happened, each once, in all
    generations; a run that completes undoes nothing. (After a crash nobody knows whether what is in doubt had begun.)
    """
    done: set[str] = set()
    undone: list[str] = []
    for generation, life in enumerate(story.lives):
        harmless = {each.path for each in life.journal if isinstance(each, events.StepFailed) and not each.in_doubt}
        for path, command in life.steps.items():
            if command.undo_of:
                undone.append(command.undo_of)
            elif command.step.undo is not None and path not in harmless:
                done.add(f"{story.run_id}:{generation}:{path}")
    of_steps = [key for key in undone if ":" in key]  # the others were registered by hand
    assert len(set(of_steps)) == len(of_steps), f"{story}: undone twice: {undone}"
    if story.end in ("failed", "cancelled"):
        assert done <= set(of_steps), f"{story}: not undone: {done - set(of_steps)}"
        assert story.mood.crash or done == set(of_steps), f"{story}: not done: {set(of_steps) - done}"
    elif story.end == "completed":
        assert not undone, str(story)


def unfinished_tasks() -> list[str]:
    """Names of tasks of workflow code that are alive in this process, but for those that are known not to end."""
    gc.collect()
    undead = set(loop._undead)  # pyright: ignore[reportPrivateUsage]
    tasks = [each for each in gc.get_objects() if type(each) is DurableTask]
    return [task.get_name() for task in tasks if not task.done() and task not in undead]


@contextmanager
def handler_calls() -> Iterator[list[str]]:
    """What asyncio complains about meanwhile to deterministic loops, which keep it to themselves."""
    calls: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DurableLoop, "call_exception_handler", lambda self, context: calls.append(context["message"]))
        yield calls


def difference(expected: list[str], found: list[str] | None) -> str:
    """The first place at which two lists of commands differ."""
    found = found or []
    for place, (one, other) in enumerate(zip(expected, found, strict=False)):
        if one != other:
            return f"command {place}: expected {one!r}, found {other!r}"
    rest = (expected[len(found) :] or found[len(expected) :])[:3]
    return f"{len(expected)} commands expected, {len(found)} found; the rest: {rest}"
