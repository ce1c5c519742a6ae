"""The effect ledger inside of one process: doubts and their answers, threads that outlive their limit, hooks, memos."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from cadenza import (
    Answer,
    Context,
    Done,
    Engine,
    EngineOptions,
    NotDone,
    Retry,
    RunCancelled,
    RunFailed,
    UnknownName,
    step,
    workflow,
)
from cadenza.durable import codec, events
from cadenza.engine.clock import SystemClock
from cadenza.engine.lease import LeaseKeeper
from cadenza.engine.memory import MemoryStore
from cadenza.engine.store import Append, Claim, Operation, Post, Posting, perform

LIMIT_S, WORK_S, PATIENCE_S = 0.05, 0.25, 20
happened: list[str] = []
"""What has happened, in order."""


class Lost(Exception):
    """No answer: nobody knows."""


def play(main: Callable[[Engine], Awaitable[None]], location: str | Path = ":memory:") -> None:
    """Run ``main`` with an engine."""
    happened.clear()

    async def opened() -> None:
        async with Engine.open(location, EngineOptions(linger_s=0.0)) as engine, asyncio.timeout(PATIENCE_S):
            await main(engine)

    asyncio.run(opened())


# --- doubts and answers -----------------------------------------------------------------------------------------------


@step(effect="irreversible")
async def pay(amount: int) -> int:
    happened.append("pay")
    if len(happened) == 1:
        raise Lost
    await asyncio.sleep(LIMIT_S)
    return amount


@workflow
async def paying(ctx: Context, amount: int) -> int:
    return await ctx.step(pay, amount)


@step(effect="irreversible")
async def pay_twice_lost(amount: int) -> int:
    happened.append("pay")
    if len(happened) <= 2:
        raise Lost
    return amount


@workflow
async def paying_twice_lost(ctx: Context, amount: int) -> int:
    return await ctx.step(pay_twice_lost, amount)


async def doubt(engine: Engine, after: int = 0) -> int:
    """When the open question was asked; a later one than ``after``."""
    while True:
        for row, _ in engine.tasks():
            if row.asked_at > after:
                return row.asked_at
        await asyncio.sleep(0.005)


def test_an_answer_to_an_earlier_doubt_does_not_answer_the_next() -> None:
    """Two persons look at once; the second one's "not done" arrives when the step has been done again since."""

    async def main(engine: Engine) -> None:
        handle = await engine.start(paying_twice_lost, 7)
        first, path = await doubt(engine), "pay_twice_lost#1"
        not_done = Answer(choice="not_done", by="ann")
        await engine.answer(handle.run_id, path, not_done, asked_at=first)
        second = await doubt(engine, after=first)
        with pytest.raises(UnknownName):
            await engine.answer(handle.run_id, path, not_done, asked_at=first)
        raw = codec.encode(not_done, Answer, "the answer")
        late = events.TaskAnswered(at=1, path=path, answer=raw, asked_at=first)
        row = handle.row
        await perform(engine.store, Post(Posting(row.run_id, late, generation=row.generation), engine.clock.now()))
        while engine.store.letters(row.no):
            await asyncio.sleep(0.005)
            engine.service.nudge()
        assert await doubt(engine) == second
        assert happened == ["pay", "pay"]
        await engine.answer(handle.run_id, path, Answer(choice="done", value=7, by="ann"), asked_at=second)
        assert await handle.result() == 7

    play(main)


@pytest.mark.parametrize("second", ["not_done", "done", "failed"])
def test_only_the_first_answer_to_a_doubt_counts(second: str) -> None:
    """Two processes may take two people's answers at the same moment; both are in the inbox then."""

    async def main(engine: Engine) -> None:
        handle = await engine.start(paying, 7)
        await handle.settled()
        ((row, _),) = engine.tasks(handle.run_id)
        answers = [Answer(choice="not_done"), Answer(choice=second, value=8)]
        letters = [
            Posting(handle.run_id, events.TaskAnswered(at=0, path=row.path, answer=codec.encode(each, Answer, "")))
            for each in answers
        ]
        await asyncio.gather(*(perform(engine.store, Post(letter, engine.clock.now())) for letter in letters))
        await engine.resume(handle.run_id)
        assert await handle.result() == 7
        assert happened == ["pay", "pay"]

    play(main)


def test_an_answer_and_the_outcome_that_it_decides_are_one_append() -> None:
    """A kill between the two would lose the answer, and the person would be asked again."""

    appends: list[list[str]] = []

    class Watched(MemoryStore):
        def submit(self, operation: Operation[Any], done: Any, *, inline: bool = False) -> None:
            if isinstance(operation, Append):
                appends.append([type(event).__name__ for event in operation.events])
            super().submit(operation, done, inline=inline)

    async def main() -> None:
        async with Engine(Watched(), EngineOptions(linger_s=0.0)) as engine, asyncio.timeout(PATIENCE_S):
            handle = await engine.start(paying, 7)
            await handle.settled()
            ((row, _),) = engine.tasks(handle.run_id)
            await engine.answer(handle.run_id, row.path, Answer(choice="done", value=7))
            assert await handle.result() == 7

    happened.clear()
    asyncio.run(main())
    assert ["DoubtResolved", "StepCompleted"] in appends


# --- threads that cannot be stopped -----------------------------------------------------------------------------------


def look(_: int) -> Done | NotDone:
    return Done(1) if "stamp" in happened else NotDone()


@step(effect="irreversible", timeout_s=LIMIT_S, reconcile=look)
def stamp(number: int) -> int:
    time.sleep(WORK_S)
    happened.append("stamp")
    return number


@workflow
async def stamping(ctx: Context, number: int) -> int:
    return await ctx.step(stamp, number)


def test_an_irreversible_thread_that_outlives_its_limit_is_waited_for_before_anybody_is_asked() -> None:
    async def main(engine: Engine) -> None:
        assert await (await engine.start(stamping, 1)).result() == 1
        await asyncio.sleep(WORK_S)
        assert happened == ["stamp"]

    play(main)


@step
def unbook(booked: int | None) -> None:
    happened.append(f"unbook {booked}")


@step(effect="compensatable", undo=unbook)
def book(number: int) -> int:
    time.sleep(WORK_S)
    happened.append("book")
    return number


@workflow
async def booking(ctx: Context, limit_s: float | None) -> int:
    return await ctx.step(book.options(timeout_s=limit_s), 1)


@pytest.mark.parametrize("limit_s", [LIMIT_S, None], ids=["timed out", "cancelled"])
def test_an_undo_waits_for_the_thread_of_what_it_undoes(limit_s: float | None) -> None:
    async def main(engine: Engine) -> None:
        handle = await engine.start(booking, limit_s)
        if limit_s is None:
            await asyncio.sleep(LIMIT_S)
            await handle.cancel("no more")
        with pytest.raises((RunFailed, RunCancelled)):
            await handle.result()
        assert happened == ["book", "unbook None"]

    play(main)


# --- hooks ------------------------------------------------------------------------------------------------------------


def wrong(_: int) -> Done:
    return Done("a word")


def slow(number: int) -> Done:
    time.sleep(WORK_S)
    return Done(number)


@step(effect="irreversible", reconcile=wrong)
async def send(number: int) -> int:
    raise Lost


@workflow
async def sending(ctx: Context, number: int) -> int:
    return await ctx.step(send, number)


@workflow
async def sending_slowly(ctx: Context, number: int) -> int:
    return await ctx.step(send.options(reconcile=slow), number)


def test_a_hook_that_found_what_the_step_cannot_return_leaves_it_to_a_person() -> None:
    async def main(engine: Engine) -> None:
        handle = await engine.start(sending, 3)
        await handle.settled()
        ((row, task),) = engine.tasks(handle.run_id)
        assert "does not fit its type" in task.details["reason"]
        await engine.answer(row.run_id, row.path, Answer(choice="done", value=3))
        assert await handle.result() == 3

    play(main)


def test_a_sync_hook_does_not_hold_up_the_loop() -> None:
    async def main(engine: Engine) -> None:
        handle = await engine.start(sending_slowly, 3)
        beats = 0
        result = asyncio.ensure_future(handle.result())
        while not result.done():
            await asyncio.sleep(WORK_S / 20)
            beats += 1
        assert result.result() == 3
        assert beats > 5

    play(main)


# --- memos ------------------------------------------------------------------------------------------------------------


async def mail() -> str:
    happened.append("mail begins")
    await asyncio.sleep(WORK_S)
    happened.append("mail")
    return "sent"


@step
async def postman(letters: int) -> int:
    """Returns something else than its memo."""
    sent = await step.memo("mail", mail, effect="irreversible", input={"letters": letters})
    assert sent == "sent"
    return letters


async def trips(_: int) -> None:
    await asyncio.sleep(LIMIT_S)
    raise Lost


@step
async def hasty_postman(letters: int) -> int:
    """Fails beside its memo, the first time."""
    memo = step.memo("mail", mail, effect="irreversible", input={"letters": letters})
    other = asyncio.sleep(0) if "mail begins" in happened else trips(letters)
    await asyncio.gather(memo, other)
    return letters


@workflow
async def posting(ctx: Context, letters: int) -> int:
    return await ctx.step(postman, letters)


@workflow
async def hasty_posting(ctx: Context, letters: int) -> int:
    return await ctx.step(hasty_postman.options(retry=Retry(attempts=3, delay_s=0)), letters)


@pytest.mark.parametrize("found", ["done", "not_done"])
def test_no_memo_outlives_its_attempt_and_its_doubt_is_answered_with_its_own_value(found: str) -> None:
    async def main(engine: Engine) -> None:
        handle = await engine.start(hasty_posting, 5)
        await handle.settled()
        await asyncio.sleep(WORK_S)
        assert happened == ["mail begins"]
        ((row, task),) = engine.tasks(handle.run_id)
        assert task.details["memo"] == "mail"
        await engine.answer(row.run_id, row.path, Answer(choice=found, value="sent" if found == "done" else None))
        assert await handle.result() == 5
        assert happened.count("mail") == (found == "not_done")

    play(main)


def test_a_run_that_was_lost_begins_no_irreversible_memo(tmp_path: Path) -> None:
    async def main(engine: Engine) -> None:
        assert engine.worker is not None
        await engine.start(posting, 5)
        await perform(engine.store, Claim("another", 10, engine.clock.now(), dead=(engine.owner,)))
        await asyncio.sleep(WORK_S)
        assert not engine.worker.busy
        assert "mail begins" not in happened

    play(main, tmp_path / "cadenza.db")


# --- the lease --------------------------------------------------------------------------------------------------------


def test_a_renewal_that_comes_too_late_begins_a_new_term() -> None:
    """In between others may have taken runs: each of them is looked at anew before its next effect."""

    class Watch(SystemClock):
        now_s = 1000.0

        def elapsed_s(self) -> float:
            return self.now_s

    watch = Watch()
    keeper = LeaseKeeper(MemoryStore(), watch, "me", 10.0, lambda: None)
    keeper.renewed(watch.now_s)
    term = keeper.term
    watch.now_s += 2.5
    keeper.renewed(watch.now_s)
    assert (keeper.term, keeper.valid()) == (term, True)
    watch.now_s += 10
    assert not keeper.valid()
    keeper.renewed(watch.now_s)
    assert (keeper.term, keeper.valid()) == (term + 1, True)
