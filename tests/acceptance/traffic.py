"""Random work for many processes on one file: the workflows, and the parts that the processes play.

Usage: python -m tests.acceptance.traffic worker|starter|talker FILE SEED SECONDS

All parts write what happened outside of the database, one JSON line each, into the folder of FILE: ``effects.log``
(what steps did), ``claims.log`` (which worker got which run in which epoch), ``started.log`` (what was accepted).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

from cadenza import Answer, Context, Done, Engine, EngineOptions, HumanTask, NotDone, Retry, step, workflow
from cadenza.engine.store import Filter
from cadenza.engine.worker import Worker
from cadenza.errors import CadenzaError

FOLDER = Path(os.environ.get("CADENZA_TRAFFIC", "."))
STOP = FOLDER / "stop"
ANSWERS = ("yes", "no")
LEASE_S = 60.0


def note(log: str, **fields: Any) -> None:
    """Append a line; whole, also if this process is killed."""
    file = os.open(FOLDER / f"{log}.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, json.dumps(fields).encode() + b"\n")
    finally:
        os.close(file)


def noted(log: str, folder: Path | None = None) -> list[dict[str, Any]]:
    path = (folder or FOLDER) / f"{log}.log"
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


# --- steps ------------------------------------------------------------------------------------------------------------


@step(effect="read")
async def look(number: int) -> int:
    note("effects", kind="look", key=step.key())
    return number * 2


@step(retry=Retry(attempts=5, delay_s=0.01))
async def charge(number: int) -> str:
    note("effects", kind="charge", key=step.key())
    if number % 7 == 0 and step.attempt() == 1:
        raise ConnectionError("once")
    await asyncio.sleep(0.002)
    return f"charged {number}"


@step
def charge_in_a_thread(number: int) -> str:
    note("effects", kind="charge", key=step.key())
    time.sleep(0.005)
    return f"charged {number}"


async def was_paid(number: int) -> Done | NotDone:
    paid = any(each["kind"] == "pay" and each["key"] == step.key() for each in noted("effects"))
    return Done(f"paid {number}") if paid else NotDone()


@step(effect="irreversible", reconcile=was_paid)
async def pay(number: int) -> str:
    note("effects", kind="pay", key=step.key())
    await asyncio.sleep(0.2)  # so that some are killed in between
    return f"paid {number}"


async def unbook(outcome: str | None) -> None:
    note("effects", kind="unbook", key=step.key(), undo_of=step.undo_of())


@step(effect="compensatable", undo=unbook)
async def book(place: str) -> str:
    note("effects", kind="book", key=step.key())
    return place


@step
async def fail(number: int) -> None:
    raise ValueError(f"no {number}")


@step
async def hold(number: int) -> int:
    """Works until the file ``release`` is there."""
    note("effects", kind="hold", key=step.key(), pid=os.getpid(), at=time.time())
    while not (FOLDER / "release").exists():
        await asyncio.sleep(0.01)
    return number


# --- workflows --------------------------------------------------------------------------------------------------------


@workflow
async def order(ctx: Context, number: int) -> list[Any]:
    seen = await ctx.step(look, number)
    charged = await asyncio.gather(ctx.step(charge, number), ctx.step(charge_in_a_thread, number))
    return [seen, *charged, await ctx.step(pay, number)]


@workflow
async def talk(ctx: Context, number: int) -> list[Any]:
    heard = [await ctx.receive("go", int) for _ in range(3)]
    answer = await ctx.ask(HumanTask(title=f"Order {number}?", kind="choose", options=ANSWERS))
    await ctx.step(charge, number)
    return [*heard, answer.choice]


@workflow
async def family(ctx: Context, number: int) -> list[Any]:
    ctx.start(nap, number)
    return list(await asyncio.gather(ctx.run(order, number), ctx.run(nap, number)))


@workflow
async def nap(ctx: Context, number: int) -> str:
    await asyncio.sleep(0.05 + ctx.random.random())
    try:
        async with asyncio.timeout(0.3):
            await ctx.receive("never")
    except TimeoutError:
        pass
    return await ctx.step(charge, number)


@workflow
async def trip(ctx: Context, number: int) -> None:
    await ctx.step(book, f"hotel {number}")
    await ctx.step(book, f"train {number}")
    await ctx.step(fail, number)


@workflow(concurrency=2)
async def single(ctx: Context, number: int) -> int:
    note_enter = await ctx.step(enter, number)
    await asyncio.sleep(0.02)
    return await ctx.step(leave, note_enter)


@step
async def enter(number: int) -> int:
    note("effects", kind="enter", key=step.key(), at=time.time())
    return number


@step
async def leave(number: int) -> int:
    note("effects", kind="leave", key=step.key(), at=time.time())
    return number


@workflow
async def generations(ctx: Context, left: int) -> str:
    for _ in range(3):
        await ctx.step(charge, left)
    if left % 4:
        ctx.continue_as_new(left - 1)
    return "the last"


@workflow
async def endless(ctx: Context, number: int) -> None:
    """Waits for what never comes, until it is cancelled; cleans up."""
    try:
        await ctx.receive("never")
    finally:
        await ctx.shield(ctx.step(charge, number))


@workflow
async def held(ctx: Context, number: int) -> int:
    return await ctx.step(hold, number)


@workflow(concurrency=1)
async def held_one_by_one(ctx: Context, number: int) -> int:
    return await ctx.step(hold, number)


# --- the parts --------------------------------------------------------------------------------------------------------


async def work(path: Path) -> None:
    """A worker; ends in good order at SIGTERM."""
    adopt = Worker.adopt

    def adopt_and_note(self: Worker, row: Any, journal: Any = None) -> None:
        note("claims", run=row.run_id, epoch=row.epoch, owner=self.env.owner, pid=os.getpid(), at=time.time())
        adopt(self, row, journal)

    Worker.adopt = adopt_and_note
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    options = EngineOptions(adopt_all=True, lease_s=float(os.environ.get("CADENZA_LEASE_S", LEASE_S)))
    async with Engine.open(path, options):
        print("ready", flush=True)
        await stop.wait()


async def start_runs(path: Path, chance: random.Random, seconds: float) -> None:
    """Starts runs of all kinds, opening the store anew now and then, as a command line would."""
    kinds = [order, order, talk, family, nap, trip, single, single, generations, endless]
    until = time.monotonic() + seconds
    number = 0
    while time.monotonic() < until:
        async with Engine.open(path, EngineOptions(worker=False)) as engine:
            for _ in range(chance.randint(1, 30)):
                number += 1
                kind = chance.choice(kinds)
                twice = 2 if chance.random() < 0.1 else 1
                for _ in range(twice):
                    handle = await engine.start(
                        kind, number, id=f"n{number}", on_conflict="join", priority=chance.randint(0, 2)
                    )
                    note("started", run=handle.run_id, workflow=kind.name, number=number)
                await asyncio.sleep(chance.uniform(0.0, 0.08))


async def talk_to_runs(path: Path, chance: random.Random) -> None:
    """Signals, answers and cancels, until told to stop and nothing is open any more."""
    open_statuses = ("pending", "ready", "running", "waiting", "blocked")
    async with Engine.open(path, EngineOptions(worker=False)) as engine:
        while True:
            last_round = STOP.exists()
            rows = engine.runs(Filter(status=open_statuses, limit=10_000))
            if last_round and not rows:
                return
            for row in rows:
                try:
                    await _say(engine, row.run_id, row.workflow.rpartition(":")[2], chance)
                except CadenzaError as error:
                    if "nothing was sent" not in str(error) and "already" not in str(error):
                        raise
            for task_row, _ in engine.tasks():
                try:
                    await engine.answer(
                        task_row.run_id, task_row.path, Answer(choice=chance.choice(ANSWERS), by="talker")
                    )
                except CadenzaError as error:
                    if "is open" not in str(error) and "answered" not in str(error):
                        raise
            await asyncio.sleep(0.05)


async def _say(engine: Engine, run_id: str, kind: str, chance: random.Random) -> None:
    if kind == "talk":
        for number in chance.choices(range(3), k=2):
            await engine.signal(run_id, "go", number, key=f"go{number}")
    elif kind == "endless" and chance.random() < 0.2:
        await engine.cancel(run_id, "enough")


def main() -> None:
    part, path, seed, seconds = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    logging.basicConfig(level=logging.WARNING)
    chance = random.Random(seed)
    match part:
        case "worker":
            asyncio.run(work(path))
        case "starter":
            asyncio.run(start_runs(path, chance, seconds))
        case "talker":
            asyncio.run(talk_to_runs(path, chance))
        case _:
            raise SystemExit(f"no part: {part}")


if __name__ == "__main__":
    main()
