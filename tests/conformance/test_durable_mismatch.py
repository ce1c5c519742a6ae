"""Mismatch is never corruption: code that does not fit its journal is refused, with what was expected and what was
found.

Each case is a workflow as it was and as it is now. The journal is made by the first and replayed by the second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from cadenza import Context, HumanTask, step, workflow
from cadenza.durable import codec, events
from cadenza.durable.define import WorkflowFunction
from cadenza.durable.failure import Failure
from cadenza.durable.machine import Machine
from cadenza.errors import Nondeterminism
from tests.conformance.corpus import SHAPES
from tests.conformance.depth import seeds
from tests.conformance.shape import Shape
from tests.conformance.shapes.runs import doubler, sleeper
from tests.conformance.shapes.steps import double, note, pay, triple
from tests.conformance.world import LAGGING, T0, World

Flow = Callable[..., Any]


@step(name="note")
async def another_note(text: str) -> str:
    return text


@step(name="double")
async def double_as_text(n: int) -> str:
    return str(2 * n)


@dataclass
class Case:
    """``was`` and ``now`` are the same workflow; a replay must fail, and say these words."""

    was: Flow
    now: Flow
    expected: str
    found: str


CASES: dict[str, Case] = {}


def flow(*calls: Callable[[Context], Any]) -> Flow:
    """A workflow that awaits these calls, one after the other, then a message."""

    async def run(ctx: Context) -> Any:
        results = [await call(ctx) for call in calls]
        await ctx.receive("last")
        return results

    return run


def ends(*calls: Callable[[Context], Any], value: Any = None) -> Flow:
    """A workflow that awaits these calls and ends."""

    async def run(ctx: Context) -> Any:
        for call in calls:
            await call(ctx)
        return value

    return run


def a(ctx: Context) -> Any:
    return ctx.step(note, "a")


def b(ctx: Context) -> Any:
    return ctx.step(note, "b")


def n(ctx: Context) -> Any:
    return ctx.step(double, 1)


def nap(ctx: Context) -> Any:
    return asyncio.sleep(1)


def again(ctx: Context) -> Any:
    return ctx.continue_as_new() if ctx.generation == 0 else asyncio.sleep(0)


def task(ctx: Context) -> Any:
    async def inside() -> Any:
        return await a(ctx)

    return asyncio.create_task(inside())


CASES["another step"] = Case(flow(n, a), flow(lambda ctx: ctx.step(triple, 1), a), "double", "triple")
CASES["another function of this label"] = Case(
    flow(a), flow(lambda ctx: ctx.step(another_note, "a")), "steps:note (input", "mismatch:another_note (input"
)
CASES["another input"] = Case(flow(a, n), flow(b, n), "steps:note (input", "steps:note (input")
CASES["another order"] = Case(flow(a, n, b), flow(n, a, b), "note (input", "waiting for step tests.conformance.shapes")
CASES["another order of one step"] = Case(flow(a, b), flow(b, a), "at note#1", "at note#1")
CASES["a step is missing"] = Case(flow(a, n, b), flow(a, b), "double (input", "note#2")
CASES["the last step is missing"] = Case(ends(a, n), ends(a), "double (input", "code that has completed without it")
CASES["all steps are missing"] = Case(flow(a, n), ends(), "note (input", "completed")
CASES["a step more at the start"] = Case(flow(a), flow(n, a), "note (input", "waiting for step tests.conformance")
CASES["a step more at the end"] = Case(ends(a), ends(a, n), "completed", "still waiting")
CASES["a step in a task"] = Case(flow(a), flow(task), "at note#1", "at b1/note#1")
CASES["a step for a timer"] = Case(flow(a), flow(nap), "note (input", "waiting for a timer (due 2025-06-15")
CASES["a timer for a step"] = Case(flow(nap), flow(a), "a timer (due 2025-06-15", "waiting for step")
CASES["a question for a step"] = Case(
    flow(lambda ctx: ctx.ask(HumanTask("Sure?"))), flow(a), "a person's answer", "waiting for step"
)
CASES["a child for a step"] = Case(flow(lambda ctx: ctx.run(doubler, 1)), flow(a), "child run", "waiting for step")
CASES["another child"] = Case(
    flow(lambda ctx: ctx.run(doubler, 1)), flow(lambda ctx: ctx.run(sleeper, 1)), "doubler", "sleeper"
)
CASES["another child that was only started"] = Case(
    flow(lambda ctx: ctx.run(sleeper, 1_000)), flow(lambda ctx: ctx.run(doubler, 1)), "sleeper", "doubler"
)
CASES["another question"] = Case(
    flow(lambda ctx: ctx.ask(HumanTask("unanswered"))),
    flow(lambda ctx: ctx.receive("other")),
    "a person's answer",
    "'other'",
)
CASES["another message to another run"] = Case(
    flow(lambda ctx: ctx.send("x", "hello")), flow(lambda ctx: ctx.send("x", "goodbye")), "a message to x", "goodbye"
)
CASES["a message to another run"] = Case(
    flow(lambda ctx: ctx.send("x", "hello")), flow(lambda ctx: ctx.send("y", "hello")), "a message to x", "to y"
)
CASES["another value of a message"] = Case(
    flow(lambda ctx: ctx.send("x", "hello", 1)), flow(lambda ctx: ctx.send("x", "hello", 2)), "(value ", "(value "
)
CASES["a longer timer"] = Case(flow(nap), flow(lambda ctx: asyncio.sleep(2)), "timer (due 20", "timer (due 20")
CASES["another input of a child"] = Case(
    flow(lambda ctx: ctx.run(doubler, 1)), flow(lambda ctx: ctx.run(doubler, 2)), "doubler (input", "doubler (input"
)
CASES["another kind of question"] = Case(
    flow(lambda ctx: ctx.ask(HumanTask("Sure?"))),
    flow(lambda ctx: ctx.ask(HumanTask("Sure?", "respond"))),
    "answer (question",
    "'Sure?' (question",
)
CASES["a question about another value"] = Case(
    flow(lambda ctx: ctx.ask(HumanTask("Pay?", value={"euros": 10}))),
    flow(lambda ctx: ctx.ask(HumanTask("Pay?", value={"euros": 1_000}))),
    "answer (question",
    "'Pay?' (question",
)
CASES["another type of a result"] = Case(
    flow(n),
    flow(lambda ctx: ctx.step(double_like(list[int]), 1)),
    "fits its type",
    "the recorded value does not fit its type",
)
CASES["another result"] = Case(ends(a, value=1), ends(a, value=2), "result b'1'", "result b'2'")
CASES["another end"] = Case(ends(a), ends(a, lambda ctx: 1 // 0), "completed", "failed")
CASES["no failure any more"] = Case(ends(a, lambda ctx: 1 // 0), ends(a), "failed", "completed")
CASES["no continuation any more"] = Case(ends(a, again), ends(a), "continued", "completed")


def double_like(result: Any) -> Any:
    """The step ``double``, as if it had been declared with another result."""
    twin = double.options()
    twin.__dict__["types"] = {**double.types, "return": result}
    twin.__dict__["result"] = codec.codec_of(result)
    return twin


@pytest.mark.parametrize("name", CASES)
def test_code_that_does_not_fit_its_journal_is_refused(name: str) -> None:
    case = CASES[name]
    journal = journal_of(case.was)
    before = [events.encode_event(event) for event in journal]
    machine = Machine(as_workflow(case.now))
    with pytest.raises(Nondeterminism) as caught:
        machine.replay(journal)
    assert machine.evict() == []
    assert case.expected in caught.value.expected, caught.value
    assert case.found in caught.value.found, caught.value
    assert "expected:" in str(caught.value)
    assert "found:" in str(caught.value)
    assert [events.encode_event(event) for event in journal] == before


@pytest.mark.parametrize("name", [name for name in CASES if name != "another type of a result"])
def test_code_that_fits_its_journal_is_not_refused(name: str) -> None:
    for each in (CASES[name].was, CASES[name].now):
        machine = Machine(as_workflow(each))
        machine.replay(journal_of(each))
        machine.evict()


def test_what_is_only_shown_may_change() -> None:
    was = flow(lambda ctx: ctx.ask(HumanTask("Sure?", details="all of it", assignee="Ada")))
    now = flow(lambda ctx: ctx.ask(HumanTask("Really sure?", details="everything")))
    machine = Machine(as_workflow(now))
    machine.replay(journal_of(was))
    assert machine.waiting_for() == ["@receive:last#1"]
    machine.evict()


BEGUN = {
    "an intent": events.StepIntent(at=T0, path="pay#1", name=pay.name, input_hash=codec.fingerprint([(1,)], "")),
    "an attempt": events.AttemptFailed(
        at=T0, path="note#1", name=note.name, attempt=1, failure=Failure("x", "y"), retry_at=T0
    ),
    "a doubt": events.OutcomeInDoubt(at=T0, path="pay#1", name=pay.name, reason="crashed"),
    "a memo's intent": events.MemoIntent(at=T0, path="note#1", key="k"),
    "a question": events.TaskOpened(at=T0, path="@ask#1", task=b"{}"),
    "a child": events.ChildStarted(at=T0, path="@run:doubler#1", run_id="r.1", workflow=doubler.name),
}


@pytest.mark.parametrize("what", BEGUN)
def test_what_was_begun_and_is_not_asked_for_any_more_is_not_forgotten(what: str) -> None:
    """An effect that may have happened, a question, a child: code that dropped it must not go on as if it were not
    there."""
    started = events.RunStarted(at=T0, run_id="r", workflow="w", input=b"null")
    machine = Machine(as_workflow(flow(n)))
    with pytest.raises(Nondeterminism, match=r"waiting for step .*double"):
        machine.replay([started, BEGUN[what]])
    machine.evict()


@pytest.mark.parametrize("change", [{"name": "tests:other"}, {"input_hash": "0123456789abcdef"}])
def test_an_intent_is_held_against_name_and_input(change: dict[str, str]) -> None:
    started = events.RunStarted(at=T0, run_id="r", workflow="w", input=b"null")
    intent = replace_in(BEGUN["an intent"], **change)
    machine = Machine(as_workflow(flow(lambda ctx: ctx.step(pay, 1))))
    machine.replay([started, BEGUN["an intent"]])
    machine.evict()
    machine = Machine(as_workflow(flow(lambda ctx: ctx.step(pay, 1))))
    with pytest.raises(Nondeterminism):
        machine.replay([started, intent])
    machine.evict()


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_an_outcome_that_was_tampered_with_is_refused(shape: Shape) -> None:
    """Any outcome of any run, moved to a path, named a name, or hashed as was never asked for."""
    for seed in seeds(2):
        for life in World(shape, seed, LAGGING).run().lives:
            for place, event in enumerate(life.journal):
                for forged in forgeries(event):
                    check_refused(shape.workflow, life.journal, place, forged)


def forgeries(event: events.AnyEvent) -> list[events.AnyEvent]:
    """The event as it cannot have been."""
    if isinstance(event, events.StepCompleted | events.StepFailed):
        return [replace_in(event, path="nowhere#1"), replace_in(event, name="m:f"), replace_in(event, input_hash="00")]
    if isinstance(event, events.TimerFired | events.TaskAnswered | events.MessageSent):
        return [replace_in(event, path="nowhere#1")]
    return []


def check_refused(
    fn: WorkflowFunction[..., Any], journal: list[events.AnyEvent], place: int, forged: events.AnyEvent
) -> None:
    machine = Machine(fn)
    machine.replay(journal[:place])
    if getattr(forged, "path", "") in machine.left:
        machine.evict()
        return  # nobody waits for it any more, whatever it says
    with pytest.raises(Nondeterminism):
        machine.apply(forged)
    machine.evict()


def replace_in(event: Any, **changes: Any) -> Any:
    return msgspec.structs.replace(event, **changes)


def as_workflow(fn: Flow) -> WorkflowFunction[..., Any]:
    fn.__name__ = fn.__qualname__ = "changing"
    return workflow(fn)


def journal_of(fn: Flow) -> list[events.AnyEvent]:
    """The journal of the first generation of ``fn``, as the pure world lives it."""
    return World(Shape(as_workflow(fn)), 1).run().lives[0].journal
