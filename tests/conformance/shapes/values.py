"""A shape that passes every kind of value through every door: live and replay must see the same."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from cadenza import Context, step, workflow


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Line(BaseModel):
    name: str
    labels: set[str] = set()
    price: Decimal = Decimal("1.10")


@dataclass
class Order:
    id: UUID
    lines: list[Line]
    paid_at: datetime | None = None
    colour: Colour = Colour.RED
    extra: dict[str, Any] = field(default_factory=dict[str, Any])


@step
async def anything(x: Any) -> Any:
    return x


@step
async def order_of(order: Order) -> Order:
    order.lines.append(Line(name="added in the step"))
    return order


@step
async def labels_of(labels: set[str]) -> set[str]:
    return labels | {"more"}


@step
async def pair() -> tuple[int, str]:
    return 1, "one"


@step
async def untyped_pair():
    return 1, ("two", {"three"}, float("nan"), b"\x00\xff")


@step
async def raw(data: bytes) -> bytes:
    return data[::-1]


@step
async def number(x: float) -> float:
    return x


@step
async def times(at: datetime, day: date, span: timedelta) -> dict[str, datetime | date | timedelta]:
    return {"at": at, "day": day, "span": span}


@workflow
async def echo(ctx: Context, order: Order) -> Order:
    return order


@workflow
async def values(ctx: Context, order: Order) -> dict[str, str]:
    """The types and representations of what comes back, as workflow code sees it."""
    seen: dict[str, Any] = {
        "untyped": await ctx.step(untyped_pair),
        "pair": await ctx.step(pair),
        "anything": await ctx.step(anything, {"a": (1, 2), 3: [None, True], "when": datetime(2026, 1, 2, tzinfo=UTC)}),
        "order": await ctx.step(order_of, order),
        "unchanged": order,
        "labels": await ctx.step(labels_of, {"x", "y", "z", "w"}),
        "raw": await ctx.step(raw, b"\x00\x01\xfe"),
        "nan": await ctx.step(number, float("nan")),
        "inf": await ctx.step(number, float("-inf")),
        "times": await ctx.step(times, datetime(2026, 1, 2, 3, tzinfo=UTC), date(2026, 1, 2), timedelta(hours=5)),
        "child": await ctx.run(echo, order),
        "message": await ctx.receive("order", Order),
        "enum": await ctx.step(anything, Colour.BLUE),
        "path": await ctx.step(anything, Path("/a/b")),
        "big": await ctx.step(anything, 2**60),
        "text": await ctx.step(anything, "ünïcödé \u2028 \x00 😀"),
    }
    return {name: text_of(value) for name, value in seen.items()}


def text_of(value: Any) -> str:
    """A value with its types, the same in every process: the members of sets are sorted."""
    match value:
        case set() | frozenset():
            return f"{type(value).__name__}{sorted(map(text_of, value))}"
        case list() | tuple():
            return f"{type(value).__name__}[{', '.join(map(text_of, value))}]"
        case dict():
            return f"{{{', '.join(f'{key!r}: {text_of(each)}' for key, each in value.items())}}}"
        case BaseModel() | Order():
            return f"{type(value).__name__}{text_of(dict(vars(value)))}"
        case _:
            return f"{type(value).__name__} {value!r}"
