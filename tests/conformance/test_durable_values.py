"""Live equals replay for values: workflow code sees the same value of a step whether it ran a moment ago or years ago.

Each value is returned by a step, in the pure world (whose live path is the machine's) and through a real engine, and is
read back by a replay. What it must come back as is written beside it.
"""

from __future__ import annotations

import asyncio
import enum
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, ClassVar, NamedTuple
from uuid import UUID

import msgspec
import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from cadenza import Context, Engine, EngineOptions, RunBlocked, StepError, step, workflow
from cadenza.durable import commands, events
from cadenza.durable.define import StepFunction
from cadenza.durable.machine import Machine
from cadenza.errors import DefinitionError
from tests.conformance.shape import Shape
from tests.conformance.world import LAGGING, T0, World


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2


class Point(NamedTuple):
    x: int
    y: float


class Box(TypedDict):
    name: str
    size: Size


class Struct(msgspec.Struct):
    name: str
    tags: set[str] = set()


class Model(BaseModel):
    name: str
    when: datetime | None = None
    parts: list[Model] = Field(default_factory=list)
    price: Decimal = Decimal(0)
    labels: set[str] = set()


class Weight(BaseModel):
    kilos: float


@dataclass
class Record:
    model: Model
    ids: dict[UUID, int] = field(default_factory=dict[UUID, int])
    raw: bytes = b""
    size: Size = Size.SMALL


@dataclass
class Value:
    """``given`` is returned by a step that declares ``declared``; ``seen`` is what workflow code gets."""

    given: Any
    declared: Any
    seen: Any


MODEL = Model(
    name="m", when=datetime(2026, 1, 2, tzinfo=UTC), parts=[Model(name="p", labels={"x", "y"})], price=Decimal("1.10")
)
RECORD = Record(MODEL, {UUID(int=1): 2}, b"text", Size.LARGE)
WHEN = datetime(2026, 3, 4, 5, 6, 7, 890, tzinfo=UTC)

ITSELF: list[Any] = []
ITSELF.append(ITSELF)

VALUES = {
    "a tuple, undeclared": Value((1, (2, 3)), Any, [1, [2, 3]]),
    "a tuple, declared": Value((1, "x"), tuple[int, str], (1, "x")),
    "a tuple of any length": Value((1, 2, 3), tuple[int, ...], (1, 2, 3)),
    "a set, undeclared": Value({"x"}, Any, ["x"]),
    "a set, declared": Value({"x", "y", "z"}, set[str], {"x", "y", "z"}),
    "a frozen set": Value(frozenset({1, 2}), frozenset[int], frozenset({1, 2})),
    "no number, undeclared": Value([float("nan"), float("inf")], Any, [float("nan"), float("inf")]),
    "no number, declared": Value(float("nan"), float, float("nan")),
    "no number, deep inside": Value({"a": [float("-inf")]}, dict[str, list[float]], {"a": [float("-inf")]}),
    "bytes, undeclared": Value(b"\x00\xff", Any, "AP8="),
    "bytes, declared": Value(b"\x00\xff", bytes, b"\x00\xff"),
    "a time, undeclared": Value(WHEN, Any, "2026-03-04T05:06:07.000890Z"),
    "a time, declared": Value(WHEN, datetime, WHEN),
    "a time without a zone": Value(datetime(2026, 1, 1), datetime, datetime(2026, 1, 1)),
    "a date, a time of day, a span": Value(
        (date(2026, 1, 2), time(3, 4), timedelta(days=1, microseconds=5)),
        tuple[date, time, timedelta],
        (date(2026, 1, 2), time(3, 4), timedelta(days=1, microseconds=5)),
    ),
    "a model": Value(MODEL, Model, MODEL),
    "a model, undeclared": Value(
        Model(name="m"), Any, {"name": "m", "when": None, "parts": [], "price": "0", "labels": []}
    ),
    "a list of models": Value([MODEL, MODEL], list[Model], [MODEL, MODEL]),
    "a data class": Value(RECORD, Record, RECORD),
    "a choice of types": Value([1, "x", None], list[int | str | None], [1, "x", None]),
    "an optional model": Value(None, Model | None, None),
    "a named tuple": Value(Point(1, 2.5), Point, Point(1, 2.5)),
    "a named tuple, undeclared": Value(Point(1, 2.5), Any, [1, 2.5]),
    "a typed dict": Value({"name": "b", "size": Size.LARGE}, Box, {"name": "b", "size": Size.LARGE}),
    "an enum, undeclared": Value(Size.LARGE, Any, 2),
    "keys that are numbers, undeclared": Value({1: "a"}, Any, {"1": "a"}),
    "keys that are numbers, declared": Value({1: "a"}, dict[int, str], {1: "a"}),
    "keys that are tuples": Value({(1, 2): "a"}, Any, {"1,2": "a"}),
    "keys that are tuples, declared": Value({(1, 2): "a"}, dict[tuple[int, int], str], None),
    "bytes in a data class, whose own settings hold": Value(Record(MODEL, raw=b"\xff"), Record, None),
    "no number in a model, whose own settings hold": Value(Weight(kilos=float("nan")), Weight, None),
    "text of all kinds": Value("ü\x00\u2028😀", str, "ü\x00\u2028😀"),
    "half a character": Value("\ud800", str, None),
    "a very large number": Value(2**200, int, 2**200),
    "a precise number": Value(0.1 + 0.2, float, 0.1 + 0.2),
    "minus zero": Value(-0.0, float, -0.0),
    "decimals": Value(Decimal("1.10"), Decimal, Decimal("1.10")),
    "nothing": Value(None, None, None),
    "nothing, undeclared": Value(None, Any, None),
    "a function": Value(print, Any, None),
    "what is no number": Value("x", int, None),
    "itself": Value(ITSELF, Any, None),
}
UNWRITABLE = ("bytes in a data class, whose own settings hold", "half a character", "a function", "itself")
REFUSED = {"keys that are tuples, declared", "no number in a model, whose own settings hold", "what is no number"}
READABLE = [name for name in VALUES if name not in UNWRITABLE]
MAKERS: dict[str, StepFunction[..., Any]] = {}


def maker(name: str, value: Value) -> StepFunction[..., Any]:
    """The step that returns this value."""

    async def make(arg: Any) -> Any:
        return value.given

    make.__annotations__ = {"arg": Any, "return": value.declared}
    make.__qualname__ = f"make_{list(VALUES).index(name)}"
    return step(make)


for _name, _value in VALUES.items():
    MAKERS[_name] = maker(_name, _value)


class Seen:
    """What workflow code saw, in memory: the point is that it is the same object graph, not only the same JSON."""

    values: ClassVar[list[Any]] = []


@workflow
async def sees(ctx: Context, name: str) -> None:
    try:
        Seen.values.append(await ctx.step(MAKERS[name], 1))
    except StepError as error:
        Seen.values.append(error)


def same(one: Any, other: Any) -> bool:
    """Equal, of equal types all the way down; NaN is itself, and minus zero is not zero."""
    if type(one) is not type(other):
        return False
    match one:
        case float():
            return repr(one) == repr(other) or (math.isnan(one) and math.isnan(other))
        case list() | tuple():
            return len(one) == len(other) and all(map(same, one, other))
        case dict():
            return list(map(repr, one)) == list(map(repr, other)) and all(map(same, one.values(), other.values()))
        case BaseModel() | Record():
            return same(vars(one), vars(other))
        case StepError():
            return (one.path, one.attempts, one.failure.type) == (other.path, other.attempts, other.failure.type)
        case _:
            return bool(one == other)


def check(name: str, seen: list[Any]) -> None:
    for value in seen:
        assert same(value, seen[0]), (name, value, seen[0])
        if name in REFUSED:
            assert isinstance(value, StepError), (name, value)
            assert value.failure.short_type == "InputInvalid", value
        else:
            assert same(value, VALUES[name].seen), (name, value)


@pytest.mark.parametrize("name", READABLE)
def test_a_value_is_the_same_live_and_in_every_replay(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through a real engine: once live, then by replays of its journal."""
    seen: list[Any] = []
    monkeypatch.setattr(Seen, "values", seen)

    async def live() -> Any:
        async with Engine.open(":memory:", EngineOptions(verify_replay=True)) as engine:
            handle = await engine.start(sees, name)
            await handle.result()
            return engine.journal(handle.run_id)

    journal = asyncio.run(live())
    for _ in range(2):
        machine = Machine(sees)
        machine.replay(event for event in journal)
        machine.evict()
    assert len(seen) == 4  # live, verified, and twice here
    check(name, seen)


@pytest.mark.parametrize("name", [name for name in READABLE if name not in REFUSED])
def test_a_value_is_not_shared_between_replays_or_with_the_step(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(Seen, "values", seen)
    story = World(Shape(sees, name), 1, LAGGING).run()
    machine = Machine(sees)
    machine.replay(story.lives[0].journal)
    machine.evict()
    check(name, seen)
    for value in seen:
        if isinstance(value, list | dict | set | BaseModel | Record):
            assert value is not VALUES[name].given
            assert sum(value is each for each in seen) == 1


@pytest.mark.parametrize("name", UNWRITABLE)
def test_a_value_that_cannot_be_written_stalls_its_run_and_is_named(name: str) -> None:
    async def live() -> None:
        async with Engine.open(":memory:") as engine:
            await (await engine.start(sees, name)).result()

    with pytest.raises(RunBlocked, match="the result of make cannot be journaled: value"):
        asyncio.run(live())


ARGUMENTS: dict[str, tuple[Any, Callable[[Any], bool]]] = {
    "a list": ([1, [2]], lambda x: x == [1, [2]]),
    "a tuple": ((1, 2), lambda x: x == [1, 2]),
    "a model": (MODEL, lambda x: x["name"] == "m"),
    "a set": ({3, 1, 2}, lambda x: sorted(x) == [1, 2, 3]),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_what_a_step_does_to_its_arguments_does_not_reach_workflow_code(name: str) -> None:
    given, right = ARGUMENTS[name]
    before = repr(given)
    (args, _) = spoils.coerce((given,), {})
    assert right(args[0])
    spoils.fn(*args)
    assert repr(given) == before


@step
def spoils(x: Any) -> None:
    """Changes what it was given."""
    if hasattr(x, "clear"):
        x.clear()


class Opaque:
    """No type that pydantic knows."""


@step
async def makes_an_opaque_thing() -> Opaque:
    return Opaque()


@workflow
async def calls_an_impossible_step(ctx: Context) -> None:
    await ctx.step(makes_an_opaque_thing)


def test_a_step_whose_result_cannot_be_journaled_is_refused_before_it_runs() -> None:
    machine = Machine(calls_an_impossible_step)
    machine.apply(events.RunStarted(at=T0, run_id="r", workflow=calls_an_impossible_step.name, input=b"null"))
    [last] = machine.take_commands()
    assert isinstance(last, commands.Finish)
    assert isinstance(last.ending, commands.Blocked)
    assert isinstance(last.ending.error, DefinitionError)
    assert "Opaque" in last.ending.detail
