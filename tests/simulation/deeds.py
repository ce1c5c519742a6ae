"""The steps of the simulated workflows: one for each way in which a step can act, fail, hang and be found out about."""

from __future__ import annotations

import asyncio

from cadenza import Done, InDoubt, NotDone, Retry, step
from tests.simulation import stage
from tests.simulation.world import Hiccup, Visit, World

OFTEN = Retry(attempts=12, delay_s=0.2, delay_s_max=2.0)
LIMIT_S = 6.0


class Declined(Exception):
    """The world says no, and nothing has happened."""


def world() -> World:
    return stage.current().world


def begin(kind: str, who: str, given: object) -> Visit:
    return world().begin(kind, who, step.key(), given)


async def visit(kind: str, who: str, given: object) -> str:
    """There, do it, and back."""
    try_ = begin(kind, who, given)
    await try_.before()
    token = try_.act()
    await try_.after()
    return token


@step(effect="read", retry=OFTEN, timeout_s=LIMIT_S)
async def read(who: str, seen: list[str]) -> str:
    try_ = begin("read", who, seen)
    await try_.before()
    return world().read(who)


@step(retry=OFTEN, timeout_s=LIMIT_S)
async def put(who: str, seen: list[str]) -> str:
    return await visit("put", who, seen)


@step(retry=OFTEN, heartbeat_timeout_s=3.0)
async def pulse(who: str, seen: list[str]) -> str:
    """A long one, that says it is alive."""
    try_ = begin("pulse", who, seen)
    await try_.before()
    for done in range(3):
        step.heartbeat({"done": done, "of": 3})
        await world().travel(slow=False)
    return try_.act()


@step(retry=OFTEN)
def press(who: str, seen: list[str]) -> str:
    """In a thread."""
    try_ = begin("press", who, seen)
    token = try_.act()
    try_.come_back()
    return token


@step(raises=(Declined,))
async def doomed(who: str, declared: bool) -> str:
    await world().travel(slow=False)
    raise Declined(who) if declared else Hiccup(f"doomed: {who}")


# --- irreversible -------------------------------------------------------------------------------------------------


async def ask_the_bank(who: str, seen: list[str]) -> Done | NotDone | InDoubt:
    """The reconcile hook: it tells the truth, or cannot tell."""
    here = world()
    await here.travel(slow=False)
    if here.decide(0.15):
        return InDoubt("the bank does not answer")
    if here.decide(0.1):
        raise Hiccup("the bank is closed")
    token = here.look_up(step.key())
    here.counts["reconciled: done" if token else "reconciled: not done"] += 1
    return Done(token) if token else NotDone()


@step(effect="irreversible", timeout_s=LIMIT_S, reconcile=ask_the_bank)
async def pay(who: str, seen: list[str]) -> str:
    """Happens as soon as it begins."""
    try_ = begin("pay", who, seen)
    token = try_.act()
    await try_.after()
    return token


@step(effect="irreversible", timeout_s=LIMIT_S, reconcile=ask_the_bank)
async def wire(who: str, seen: list[str]) -> str:
    """Takes its time."""
    return await visit("wire", who, seen)


@step(effect="irreversible", timeout_s=LIMIT_S)
async def bill(who: str, seen: list[str]) -> str:
    """Nobody can tell but a person."""
    return await visit("bill", who, seen)


def ask_the_archive(who: str, seen: list[str]) -> Done | NotDone:
    """A hook that runs in a thread, as the step does."""
    token = world().look_up(step.key())
    return Done(token) if token else NotDone()


@step(effect="irreversible", timeout_s=LIMIT_S, reconcile=ask_the_archive)
def stamp(who: str, seen: list[str]) -> str:
    """In a thread, which cannot be stopped."""
    try_ = begin("stamp", who, seen)
    token = try_.act()
    try_.come_back()
    return token


# --- what can be undone -------------------------------------------------------------------------------------------


async def take_back(kind: str, who: str, token: str | None) -> None:
    try_ = begin(kind, who, token)
    await try_.before()
    try_.act()
    world().undo(step.undo_of())
    await try_.after()


@step(retry=OFTEN, timeout_s=LIMIT_S)
async def unbook(token: str | None) -> None:
    await take_back("unbook", step.undo_of(), token)


@step(retry=OFTEN, timeout_s=LIMIT_S)
async def unhire(token: str | None) -> None:
    await take_back("unhire", step.undo_of(), token)


@step(retry=OFTEN, timeout_s=LIMIT_S, raises=(Declined,))
async def retract(who: str) -> None:
    """Cannot always be done; the rest must be undone all the same."""
    if world().decide(0.15):
        raise Declined(who)
    await take_back("retract", who, who)


@step(effect="compensatable", undo=unbook, retry=OFTEN, timeout_s=LIMIT_S)
async def book(who: str, seen: list[str]) -> str:
    return await visit("book", who, seen)


@step(effect="compensatable", undo=unhire, timeout_s=LIMIT_S)
def hire(who: str, seen: list[str]) -> str:
    """In a thread."""
    try_ = begin("hire", who, seen)
    token = try_.act()
    try_.come_back()
    return token


# --- sub-results --------------------------------------------------------------------------------------------------


@step(retry=OFTEN, timeout_s=4 * LIMIT_S)
async def notes(who: str, seen: list[str]) -> list[str]:
    """Three sub-results, each of another effect; the whole is tried again until all are there."""
    try_ = begin("notes", who, seen)
    here, key = world(), step.key()
    pages = [
        await step.memo("glance", lambda: here.sub_result("glance", who, key), effect="read"),
        await step.memo("ink", lambda: here.sub_result("ink", who, key)),
        await step.memo("seal", lambda: here.sub_result("seal", who, key), effect="irreversible"),
    ]
    try_.come_back()
    return pages


@step(retry=OFTEN, timeout_s=4 * LIMIT_S)
async def album(who: str, seen: list[str]) -> list[str]:
    """Sub-results side by side: one that fails ends the others."""
    begin("album", who, seen)
    here, key = world(), step.key()
    return await asyncio.gather(
        *(step.memo(kind, lambda kind=kind: here.sub_result(kind, who, key)) for kind in ("left", "middle", "right"))
    )
