"""What the machine promises about single moments: the call, the failure, the undo, the end, the next generation."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel

from cadenza import Context, step, workflow
from cadenza.durable import codec, commands, events
from cadenza.durable.commands import signature_of
from cadenza.durable.define import WorkflowFunction, steps
from cadenza.durable.failure import Failure
from cadenza.durable.machine import Machine
from cadenza.errors import NotSerialisable, SideEffect, Stalled
from tests.conformance.shapes.runs import doubler
from tests.conformance.shapes.steps import book, double, fail, look, note, pay
from tests.conformance.world import T0, finished, open_in


class Driven:
    """A machine that is told by hand what happens."""

    def __init__(
        self, fn: WorkflowFunction[..., Any], given: Any = None, carried: events.Carried | None = None
    ) -> None:
        self.machine = Machine(fn, [])
        self.journal: list[events.AnyEvent] = []
        raw = fn.encode_input(given)
        self.apply(events.RunStarted(at=T0, run_id="r", workflow=fn.name, input=raw, carried=carried))

    def apply(self, event: events.AnyEvent) -> None:
        self.journal.append(event)
        self.machine.apply(event)

    def run(self, path: str) -> None:
        """The step at ``path`` runs, and its outcome arrives."""
        command = self.machine.open[path].command
        assert isinstance(command, commands.RunStep)
        common: dict[str, Any] = {"at": T0, "path": path, "name": command.name, "input_hash": command.input_hash}
        try:
            args, kwargs = command.step.coerce(command.args, command.kwargs)
            raw = codec.encode(finished(command.step.fn(*args, **kwargs)), command.step.types["return"], path)
            event: events.AnyEvent = events.StepCompleted(value=raw, **common)
        except ValueError as error:
            event = events.StepFailed(failure=Failure.of(error), in_doubt=True, **common)
        self.apply(event)

    @property
    def open(self) -> list[str]:
        return list(self.machine.open)

    @property
    def ending(self) -> commands.Ending | None:
        last = self.machine.take_commands()[-1:]
        return last[0].ending if last and isinstance(last[0], commands.Finish) else None

    def close(self) -> None:
        assert self.machine.evict() == []
        again = Machine(self.machine.workflow, [])
        again.replay(self.journal)
        assert again.trace == self.machine.trace
        assert open_in(again) == open_in(self.machine)
        again.evict()


# --- the call -----------------------------------------------------------------------------------------------------


@workflow
async def gives_away(ctx: Context) -> list[Any]:
    growing: list[int] = []
    order = Order(lines=[])
    calls = []
    for n in range(3):
        growing.append(n)
        order.lines.append(n)
        calls.append(ctx.step(look, growing))
        calls.append(ctx.step(look, x={"order": order}))
    return await asyncio.gather(*calls)


@dataclass
class Order:
    lines: list[int]


def test_a_step_is_given_what_its_arguments_were_at_the_call() -> None:
    driven = Driven(gives_away)
    for path in driven.open:
        driven.run(path)
    ending = driven.ending
    assert isinstance(ending, commands.Completed)
    assert codec.decode(ending.value, Any, "it")[4:] == [["seen", [0, 1, 2]], ["seen", {"order": {"lines": [0, 1, 2]}}]]
    assert codec.decode(ending.value, Any, "it")[:2] == [["seen", [0]], ["seen", {"order": {"lines": [0]}}]]
    driven.close()


def test_what_a_replayed_call_gives_away_is_as_it_was() -> None:
    driven = Driven(gives_away)
    driven.run("look#1")
    machine = Machine(gives_away)
    machine.replay(driven.journal)
    given = [future.command.args[0] for path, future in machine.open.items()]  # type: ignore[union-attr]
    assert given == [{"order": Order([0])}, [0, 1], {"order": Order([0, 1])}, [0, 1, 2], {"order": Order([0, 1, 2])}]
    machine.evict()
    driven.close()


class Labels(BaseModel):
    labels: set[str]
    sizes: dict[int, deque[set[str]]] = {}


@pytest.mark.parametrize(
    "value",
    [
        {1: "one", 2: "two"},
        {"a": 1, 2: "b", None: 3, (1, 2): 4},
        {"x", "y", "z"},
        {1, "a", None, (1, 2)},
        deque([{"a", "b", "c"}]),
        [Labels(labels={"p", "q"}, sizes={1: deque([{"s", "t"}])}), {3: {"u", "v"}}],
        float("nan"),
        b"\xff\x00",
    ],
    ids=lambda value: type(value).__name__,  # sets have no order that two processes share
)
def test_any_plain_value_can_be_an_argument(value: Any) -> None:
    assert len(codec.fingerprint([value], "it")) == 16


@pytest.mark.parametrize(
    "value",
    [iter([1]), (n for n in range(2)), object(), {"a": {"b": [lambda: 1]}}, {object()}],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_journaled_or_is_used_up_by_reading_is_refused(value: Any) -> None:
    with pytest.raises(NotSerialisable):
        codec.fingerprint([value], "it")


# --- failure and undo ---------------------------------------------------------------------------------------------


@workflow
async def fails_half_way(ctx: Context) -> None:
    await ctx.step(book, "first")

    async def going_on() -> None:
        await ctx.step(book, "second")
        await ctx.step(book, "third")
        await ctx.step(note, "never")

    await asyncio.gather(going_on(), ctx.step(fail, "x"))


def test_a_failing_run_undoes_last_first_and_leaves_out_nothing_in_flight() -> None:
    driven = Driven(fails_half_way)
    driven.run("book#1")
    driven.run("b1/book#1")
    driven.run("fail#1")
    undone = []
    while driven.open:
        [path] = driven.open
        undone.append([path, driven.machine.open[path].command.args])  # type: ignore[union-attr]
        driven.run(path)
    assert undone == [
        ["b1/book#2~undo", (None,)],  # was in flight: whether it has happened is not known
        ["b1/book#1~undo", ("booked second",)],
        ["book#1~undo", ("booked first",)],
    ]
    assert "step b1/note#1" not in str(driven.machine.trace)
    assert isinstance(driven.ending, commands.Failed)
    driven.close()


def test_cancelling_a_run_that_is_undoing_does_not_keep_it_from_undoing_the_rest() -> None:
    driven = Driven(fails_half_way)
    for path in ("book#1", "b1/book#1", "b1/book#2", "fail#1"):
        driven.run(path)
    driven.apply(events.CancelRequested(at=T0, reason="too late"))
    assert driven.open == ["b1/book#2~undo"]
    for path in ("b1/book#2~undo", "b1/book#1~undo", "book#1~undo"):
        driven.run(path)
    assert isinstance(driven.ending, commands.Failed)
    driven.close()


@step
async def short_lived(receipt: str | None) -> None: ...


@workflow
async def undone_by_what_is_gone(ctx: Context) -> None:
    ctx.compensate(short_lived, "x")
    await ctx.step(fail, "x")


def test_a_run_whose_undo_was_deleted_is_blocked_and_not_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    driven = Driven(undone_by_what_is_gone)
    monkeypatch.delitem(steps, short_lived.name)
    driven.run("fail#1")
    ending = driven.ending
    assert isinstance(ending, commands.Blocked)
    assert "short_lived" in ending.detail
    driven.machine.evict()


@workflow
async def exits(ctx: Context, where: str) -> None:
    async def leave() -> None:
        sys.exit(3)

    match where:
        case "here":
            sys.exit(3)
        case "in a task":
            await asyncio.gather(leave())
        case "in a group":
            async with asyncio.TaskGroup() as group:
                group.create_task(leave())
        case _:
            asyncio.ensure_future(leave())
            await ctx.step(look, 1)


@pytest.mark.parametrize("where", ["here", "in a task", "in a group", "alone"])
def test_sys_exit_is_an_end_of_the_run_and_not_of_the_process(where: str) -> None:
    driven = Driven(exits, where)
    if where == "alone":
        driven.run("look#1")
        assert isinstance(driven.ending, commands.Completed)
    else:
        assert isinstance(driven.ending, commands.Failed)
    driven.close()


@workflow
async def endless(ctx: Context) -> None:
    while True:
        await asyncio.sleep(0)


def test_code_that_never_comes_to_rest_is_stalled() -> None:
    machine = Machine(endless)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cadenza.durable.loop.CALLBACKS_MAX", 1_000)
        with pytest.raises(Stalled, match="1,000 callbacks"):
            machine.apply(events.RunStarted(at=T0, run_id="r", workflow=endless.name, input=b"null"))
    machine.evict()


# --- the end and the next generation ------------------------------------------------------------------------------


@workflow
async def ends_first(ctx: Context) -> str:
    async def behind() -> None:
        try:
            await ctx.step(look, 1)
        finally:
            await ctx.step(pay, 2)

    asyncio.ensure_future(behind())
    ctx.step(pay, 1)
    await ctx.step(note, "end")
    return "ended"


def test_after_its_end_a_run_begins_nothing_while_it_waits_for_what_is_in_flight() -> None:
    driven = Driven(ends_first)
    driven.run("note#1")
    assert driven.open == ["pay#1"]
    driven.run("pay#1")
    assert driven.open == []
    assert isinstance(driven.ending, commands.Completed)
    assert "pay#1" not in " ".join(each for each in driven.machine.trace or [] if "b1/" in each)
    driven.close()


@workflow
async def continues(ctx: Context, n: int) -> Any:
    if n == 0:
        handle = ctx.start(doubler, 1)
        ctx.step(pay, 1)
        await ctx.step(book, "b")
        ctx.step(book, "in flight")
        await ctx.step(look, 1)
        ctx.continue_as_new(handle.run_id and 1)
    return [await ctx.receive("word"), await ctx.receive("word")]


def test_what_arrives_while_a_generation_ends_is_carried_to_the_next() -> None:
    driven = Driven(continues, 0)
    child = driven.machine.open["@run:doubler#1"].command
    assert isinstance(child, commands.StartChild)
    driven.apply(events.MessageReceived(at=T0, name="word", value=b'"before"'))
    driven.run("book#1")
    driven.run("look#1")
    assert driven.open == ["pay#1"]
    driven.apply(events.MessageReceived(at=T0, name="word", value=b'"meanwhile"'))
    driven.apply(events.ChildEnded(at=T0, path=child.path, run_id=child.run_id, status="completed", value=b"2"))
    driven.run("pay#1")
    driven.apply(events.MessageReceived(at=T0, name="word", value=b'"after"'))
    driven.apply(events.CancelRequested(at=T0, reason="after"))
    carried = driven.machine.carry()
    assert [letter.value for letter in carried.letters] == [b'"before"', b'"meanwhile"', b'"after"']
    assert [child.value for child in carried.children] == [b"2"]
    assert [undo.arguments for undo in carried.undo] == [(b'"booked b"',), (b"null",)]
    assert carried.cancel == "after"
    driven.close()


@workflow
async def two_receivers(ctx: Context) -> list[Any]:
    return list(await asyncio.gather(ctx.receive("word"), ctx.receive("word")))


def test_the_first_to_wait_for_a_message_is_the_first_to_get_one() -> None:
    driven = Driven(two_receivers)
    for value in (b'"first"', b'"second"'):
        driven.apply(events.MessageReceived(at=T0, name="word", value=value))
    ending = driven.ending
    assert isinstance(ending, commands.Completed)
    assert ending.value == b'["first","second"]'
    driven.close()


@workflow
async def asks_for_a_child(ctx: Context, run_id: str) -> list[Any]:
    first, second = ctx.child(run_id, int), ctx.child(run_id, int)
    return [await first.result(), await second.result(), await ctx.child(run_id, int).result()]


@pytest.mark.parametrize("early", [True, False])
def test_a_child_of_an_earlier_generation_is_waited_for_as_often_as_one_likes(early: bool) -> None:
    ended = events.ChildEnded(at=T0, path="@run:doubler#1", run_id="r.1", status="completed", value=b"2")
    driven = Driven(asks_for_a_child, "r.1", events.Carried(children=(ended,)) if early else None)
    if not early:
        driven.apply(ended)
    ending = driven.ending
    assert isinstance(ending, commands.Completed)
    assert ending.value == b"[2,2,2]"
    assert driven.machine.carry().children == ()
    driven.close()


@workflow
async def continues_with_nonsense(ctx: Context, n: int) -> None:
    ctx.continue_as_new("no number")


def test_continuing_with_what_is_no_input_blocks() -> None:
    ending = Driven(continues_with_nonsense, 1).ending
    assert isinstance(ending, commands.Blocked)
    assert "no number" in ending.detail


# --- what nobody looks at -----------------------------------------------------------------------------------------


@workflow
async def looks_away(ctx: Context, how: str) -> str:
    async def bad() -> None:
        open("/never")  # noqa: SIM115 - it never opens

    async def worse() -> None:
        raise ValueError("lost")

    match how:
        case "seen":
            results = await asyncio.gather(bad(), return_exceptions=True)
            return type(results[0]).__name__
        case "lost":
            asyncio.ensure_future(worse())
        case _:
            asyncio.ensure_future(bad())
    await ctx.step(look, 1)
    return "went on"


def test_a_bug_in_a_task_that_nobody_awaits_stalls_the_run_at_once() -> None:
    with pytest.raises(SideEffect):
        Driven(looks_away, "unseen")


def test_a_bug_that_somebody_has_looked_at_is_theirs() -> None:
    ending = Driven(looks_away, "seen").ending
    assert isinstance(ending, commands.Completed)
    assert ending.value == b'"SideEffect"'


def test_an_ordinary_error_in_a_task_that_nobody_awaits_is_lost_as_in_any_python() -> None:
    driven = Driven(looks_away, "lost")
    driven.run("look#1")
    assert isinstance(driven.ending, commands.Completed)
    driven.close()


# --- values -------------------------------------------------------------------------------------------------------


@workflow
async def returns_a_set(ctx: Context) -> set[str]:
    return {"a", "b", "c", "d", "e"}


def test_a_result_that_is_a_set_is_the_same_in_any_order() -> None:
    machine = Machine(returns_a_set)
    started = events.RunStarted(at=T0, run_id="r", workflow=returns_a_set.name, input=b"null")
    machine.replay([started, events.RunCompleted(at=T0, value=b'["e","d","c","b","a"]')])
    assert machine.finished


@pytest.mark.parametrize(
    "value",
    [{"e", "b", "a"}, [{"s": {"y", "x"}}], ({1, "a"},), Labels(labels={"q", "p"})],
    ids=lambda value: type(value).__name__,
)
def test_a_set_that_is_declared_as_nothing_is_written_in_order(value: Any) -> None:
    def sets(found: Any) -> Iterator[list[Any]]:
        if isinstance(found, dict):
            for each in found.values():
                yield from sets(each)
        elif isinstance(found, list):
            yield found
            for each in found:
                yield from sets(each)

    found = codec.decode(codec.encode(value, Any, "it"), Any, "it")
    assert all(each == sorted(each, key=lambda x: codec.encode(x, Any, "")) for each in sets(found))


def test_two_machines_ask_for_the_same_in_the_same_words() -> None:
    one, other = Driven(gives_away), Driven(gives_away)
    assert one.machine.trace == other.machine.trace
    assert [signature_of(each) for each in one.machine.take_commands()] == one.machine.trace
    one.close()
    other.close()


@workflow
async def adds_up(ctx: Context, n: int) -> int:
    return await ctx.step(double, n)


def test_the_time_of_a_run_never_goes_back() -> None:
    driven = Driven(adds_up, 1)
    command = driven.machine.open["double#1"].command
    assert isinstance(command, commands.RunStep)
    early = events.StepCompleted(
        at=T0 - 5, path="double#1", name=command.name, input_hash=command.input_hash, value=b"2"
    )
    driven.machine.apply(early)
    assert driven.machine.loop.now_us == T0
    driven.machine.evict()
