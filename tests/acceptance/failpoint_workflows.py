"""Workflows whose every effect is a request to the effects server: all effect classes, sync and async, memos, children,
timers, people, messages, failure, cancellation, continuation.

What a run is called is its input, and all that it does follows from that name, so that a test knows what must have
happened (``EXPECTED``). The server's port is in ``CADENZA_EFFECTS``.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import urllib.parse
from typing import Any

from cadenza import Context, Done, HumanTask, NotDone, Retry, step, workflow

RETRY = Retry(attempts=8, delay_s=0.005, factor=1.5)


class Refused(Exception):
    """The server answered 500: it did nothing."""


class NoAnswer(Exception):
    """The connection was closed: nobody knows."""


class Boom(Exception):
    """What fails the trips."""


# --- talking to the server --------------------------------------------------------------------------------------------


def _address() -> tuple[str, int]:
    return "127.0.0.1", int(os.environ["CADENZA_EFFECTS"])


def _request(method: str, path: str, body: dict[str, str] | None) -> bytes:
    raw = json.dumps(body).encode() if body is not None else b""
    return b"%s %s HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s" % (method.encode(), path.encode(), len(raw), raw)


def _answer(raw: bytes) -> dict[str, Any]:
    head, _, body = raw.partition(b"\r\n\r\n")
    if not body:
        raise NoAnswer
    if b" 500 " in head.split(b"\r\n")[0]:
        raise Refused
    return json.loads(body)


async def ask(method: str, path: str, body: dict[str, str] | None = None) -> dict[str, Any]:
    """One request to the server."""
    reader, writer = await asyncio.open_connection(*_address())
    try:
        writer.write(_request(method, path, body))
        return _answer(await reader.read())
    finally:
        writer.close()


def ask_sync(method: str, path: str, body: dict[str, str] | None = None) -> dict[str, Any]:
    """The same, for a thread."""
    with socket.create_connection(_address()) as connection:
        connection.sendall(_request(method, path, body))
        raw = b""
        while more := connection.recv(65536):
            raw += more
    return _answer(raw)


def effect_of(kind: str, run: str, name: str, key: str = "", undo_of: str = "") -> dict[str, str]:
    return {"kind": kind, "key": key or step.key(), "run": run, "step": name, "undo_of": undo_of}


async def act(kind: str, run: str, name: str, key: str = "") -> str:
    """Have an effect."""
    return (await ask("POST", "/effects", effect_of(kind, run, name, key)))["value"]


def act_sync(kind: str, run: str, name: str) -> str:
    return ask_sync("POST", "/effects", effect_of(kind, run, name))["value"]


def truth_path(key: str) -> str:
    return "/effects/" + urllib.parse.quote(key, safe="")


async def found(*_: Any) -> Done | NotDone:
    """Reconcile hook: what the server says about this call's key."""
    truth = await ask("GET", truth_path(step.key()))
    return Done(truth["value"]) if truth["times"] else NotDone()


def found_sync(*_: Any) -> Done | NotDone:
    """The same as a sync hook."""
    truth = ask_sync("GET", truth_path(step.key()))
    return Done(truth["value"]) if truth["times"] else NotDone()


# --- steps ------------------------------------------------------------------------------------------------------------


@step(effect="read")
async def quote(run: str) -> str:
    """Another price each time: what is done with one must not be done before it is on disk (the read barrier)."""
    return f"price {random.randrange(1_000_000)}"


@step(retry=RETRY)
async def reserve(run: str, item: str) -> str:
    return await act("idempotent", run, f"reserve {item}")


@step(retry=RETRY, timeout_s=5)
def reserve_sync(run: str, item: str) -> str:
    return act_sync("idempotent", run, f"reserve {item}")


@step(effect="irreversible", reconcile=found, timeout_s=5)
async def pay(run: str) -> str:
    return await act("irreversible", run, "pay")


@step(effect="irreversible", reconcile=found_sync)
def stamp(run: str) -> str:
    return act_sync("irreversible", run, "stamp")


@step(effect="irreversible")
def ship(run: str, turn: int) -> str:
    """Without a hook: when in doubt, a person is asked."""
    return act_sync("irreversible", run, f"ship {turn}")


async def unbook(booked: str | None) -> str:
    run = step.key().partition(":")[0]
    body = effect_of("undo", run, f"undo {step.undo_of()}", undo_of=step.undo_of())
    return (await ask("POST", "/effects", body))["value"]


@step(effect="irreversible", reconcile=found_sync)
def refund(booked: str | None) -> str:
    """An undo that must not happen twice."""
    run = step.key().partition(":")[0]
    body = effect_of("irreversible", run, f"undo {step.undo_of()}", undo_of=step.undo_of())
    return ask_sync("POST", "/effects", body)["value"]


undo_booking = step(retry=RETRY)(unbook)


@step(effect="compensatable", undo=undo_booking, retry=RETRY)
async def book(run: str, what: str) -> str:
    return await act("compensatable", run, f"book {what}")


@step(effect="compensatable", undo=refund, retry=RETRY)
def book_sync(run: str, what: str) -> str:
    return act_sync("compensatable", run, f"book {what}")


@step(raises=(Boom,))
def fail(run: str) -> None:
    raise Boom(run)


def mail(run: str) -> Any:
    """A tool call that must not happen twice, as a memo of the running step."""
    key = f"{step.key()}/mail"
    return step.memo("mail", lambda: act("irreversible", run, "mail", key), effect="irreversible", input={"to": run})


@step(retry=RETRY)
async def postman(run: str) -> str:
    return await mail(run)


@step
async def risk(run: str) -> str:
    """Is refused the first time that the world is asked, and is not retried."""
    return await act("idempotent", run, "risk")


@step(retry=RETRY)
async def assistant(run: str) -> list[str]:
    """A loop of model requests and tool calls, two of them at a time."""

    def model(turn: int) -> Any:
        key = f"{step.key()}/model-{turn}"
        return step.memo(f"model-{turn}", lambda: act("idempotent", run, f"model {turn}", key), input={"turn": turn})

    def look() -> Any:
        return step.memo("look", lambda: f"{run}/look", effect="read", input={"for": run})

    said = [await model(0), await model(1), await look()]
    said += await asyncio.gather(mail(run), model(2))
    return [*said, await model(3)]


# --- workflows --------------------------------------------------------------------------------------------------------


@workflow
async def parcel(ctx: Context, run: str) -> str:
    """The child of an order."""
    await ctx.step(reserve, run, "van")
    return await ctx.step(stamp, run)


@workflow
async def order(ctx: Context, run: str) -> list[Any]:
    """Succeeds."""
    price = await ctx.step(quote, run)
    result = [price, *await asyncio.gather(ctx.step(reserve, run, price), ctx.step(reserve_sync, run, "b"))]
    result.append(await ctx.step(pay, run))
    said, sent = await asyncio.gather(ctx.step(assistant, run), ctx.run(parcel, run))
    return [*result, *said, sent, await ctx.step(ship, run, 0)]


@workflow
async def trip(ctx: Context, run: str) -> None:
    """Fails, and undoes what it has booked, last first."""
    await ctx.step(book, run, "flight")
    await asyncio.gather(ctx.step(book_sync, run, "hotel"), ctx.step(book, run, "car"))
    ctx.compensate(reserve, run, "apology")
    await ctx.step(book, run, "guide")
    await ctx.step(fail, run)


@workflow
async def gamble(ctx: Context, run: str) -> str:
    """Fails, or succeeds if it was killed at the right moment; is undone in the first case only."""
    await ctx.step(book, run, "table")
    await ctx.step(book_sync, run, "chip")
    return await ctx.step(risk, run)


@workflow
async def nap(ctx: Context, run: str) -> None:
    """The child of a stay; waits until it is cancelled."""
    await ctx.step(book_sync, run, "pillow")
    await ctx.receive("never")


@workflow
async def stay(ctx: Context, run: str) -> None:
    """Is cancelled, at any moment; cleans up and undoes."""
    try:
        await ctx.step(book, run, "room")
        await ctx.run(nap, run)
    finally:
        await ctx.shield(ctx.step(reserve, run, "cleaner"))


@workflow
async def echo(ctx: Context, call: list[str]) -> None:
    """The child of a patient run: sends its parent a message."""
    await ctx.send(call[0], "echo", await ctx.step(reserve, call[1], "echo"))


@workflow
async def patient(ctx: Context, state: dict[str, Any] | str) -> list[Any]:
    """Waits for timers, people and messages, and parks each time; then once more as a new generation."""
    so_far = {"run": state, "turn": 0, "heard": []} if isinstance(state, str) else state
    run, turn, heard = so_far["run"], so_far["turn"], so_far["heard"]
    await asyncio.sleep(0.02)
    if turn == 0:
        ctx.start(echo, [ctx.run_id, run])
        heard.append(await ctx.receive("echo"))
    answer = await ctx.ask(HumanTask(title=f"{run}, turn {turn}: go on?"))
    heard += [answer.by, await ctx.step(ship, run, turn), await ctx.receive("go")]
    try:
        async with asyncio.timeout(0.02):
            await ctx.receive("never")
    except TimeoutError:
        heard.append(await ctx.step(reserve, run, f"late {turn}"))
    if turn == 0:
        ctx.continue_as_new({"run": run, "turn": 1, "heard": heard})
    return heard


# --- one effect each, for processes that stop and come back -----------------------------------------------------------


@workflow
async def only_pay(ctx: Context, run: str) -> str:
    return await ctx.step(pay, run)


@workflow
async def only_ship(ctx: Context, run: str) -> str:
    return await ctx.step(ship, run, 0)


@workflow
async def only_reserve(ctx: Context, run: str) -> str:
    return await ctx.step(reserve, run, "a")


@workflow
async def only_mail(ctx: Context, run: str) -> str:
    return await ctx.step(postman, run)


@workflow
async def only_assistant(ctx: Context, run: str) -> list[str]:
    return await ctx.step(assistant, run)


@workflow
async def wait_then_pay(ctx: Context, run: str) -> str:
    await ctx.ask(HumanTask(title="go on?"))
    return await ctx.step(pay, run)


# --- what must have happened ------------------------------------------------------------------------------------------


def results(run: str, by: str, price: str) -> dict[str, Any]:
    """The right result of each workflow for a run of this name; ``by`` is who answers its questions."""
    said = ["model 0", "model 1", "look", "mail", "model 2", "model 3"]
    names = [f"reserve {price}", "reserve b", "pay", *said, "stamp", "ship 0"]
    heard = ["reserve echo", by, "ship 0", "go-0", "reserve late 0", by, "ship 1", "go-1", "reserve late 1"]
    return {
        "order": [price, *[f"{run}/{name}" for name in names]],
        "patient": [f"{run}/{each}" if " " in each else each for each in heard],
        "trip": f"Boom: {run}",
        "gamble": f"{run}/risk",
    }


NEEDED = {
    "order": [
        "reserve b",
        "pay",
        *[f"model {turn}" for turn in range(4)],
        "mail",
        "reserve van",
        "stamp",
        "ship 0",
    ],
    "patient": ["reserve echo", "ship 0", "ship 1", "reserve late 0", "reserve late 1"],
    "trip": ["book flight", "book hotel", "book car", "book guide", "reserve apology"],
    "gamble": ["book table", "book chip"],
    "stay": [],
}
"""The effects without which a run cannot have ended as it must; ``stay`` may be cancelled before it did anything."""
