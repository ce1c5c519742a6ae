"""Shapes that undo: what was booked, what may have been, what was said by hand; and undos that fail."""

from __future__ import annotations

import asyncio

from cadenza import Context, workflow
from tests.conformance.shapes.steps import (
    Declined,
    book,
    book_for_good,
    decline,
    double,
    fail,
    fumble,
    look,
    note,
    pay,
    send_apology,
    unbook,
)
from tests.conformance.shapes.waiting import TICK_S


@workflow
async def saga(ctx: Context) -> None:
    """Books, registers an undo by hand (one of them irreversible), and fails with a declared error."""
    flight = await ctx.step(book, "flight")
    ctx.compensate(send_apology, flight)
    hotel, car = await asyncio.gather(ctx.step(book, "hotel"), ctx.step(book, "car"))
    ctx.compensate(unbook, f"{hotel} and {car}")
    await ctx.step(look, 1)
    await ctx.step(decline, "card")


@workflow
async def saga_in_flight(ctx: Context) -> None:
    """Fails while other bookings are on their way: they are left in doubt and undone as well."""

    async def travel(name: str) -> None:
        await ctx.step(book, f"{name} train")
        await ctx.step(book, f"{name} room")

    async with asyncio.TaskGroup() as group:
        group.create_task(travel("a"))
        group.create_task(travel("b"))
        await ctx.step(fumble, "visa")


@workflow
async def saga_unstructured(ctx: Context) -> None:
    """A gather fails, and leaves its other branches at work: they are stopped, and what they may have done undone."""

    async def travel(name: str) -> None:
        for place in range(3):
            await ctx.step(book, f"{name} {place}")

    await asyncio.gather(travel("a"), travel("b"), ctx.step(book, "c"), ctx.step(fail, "gather"))


@workflow
async def saga_that_cannot(ctx: Context) -> None:
    """One of its undos fails; the others are done all the same."""
    await ctx.step(book, "first")
    await ctx.step(book_for_good, "second")
    await ctx.step(book, "third")
    await ctx.step(fail, "then")


@workflow
async def saga_with_deadline(ctx: Context) -> str:
    """A booking that is left for taking too long; the run goes on, and fails later or not at all."""
    try:
        async with asyncio.timeout(TICK_S):
            await ctx.step(book, "slow")
    except TimeoutError:
        await ctx.step(note, "gave up")
    n = await ctx.step(double, 4)
    await ctx.step(pay, n)
    try:
        await ctx.step(decline, "maybe")
    except Declined:
        return "ended well"
    return "not declined"


@workflow
async def saga_cancelled(ctx: Context) -> None:
    """Waits for ever with bookings made; ends by being cancelled."""
    await ctx.step(book, "one")
    try:
        await ctx.step(book, "two")
        await ctx.receive("never")
    finally:
        await ctx.shield(ctx.step(note, "clean-up before the undo"))
