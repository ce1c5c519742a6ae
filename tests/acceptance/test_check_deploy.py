"""`check-deploy` says of every kind of code change what the engine then does to a run that waits."""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cadenza import Answer, RunBlocked, RunFailed
from cadenza.durable import events
from cadenza.engine.deploy_check import Verdict, check_runs, open_runs
from tests.acceptance.commands import Project
from tests.acceptance.deploys import copy_of, deploy, engine

BEFORE = """
import asyncio
from cadenza import Context, HumanTask, step, workflow

@step
async def reserve(item: str) -> str:
    return f"held {item}"

@step
async def charge(amount: int) -> int:
    return amount

@step
async def audit(n: int) -> int:
    return n

@step
async def inspect(n: int) -> int:
    return n

@step
async def ship(held: str) -> str:
    return f"shipped {held}"

@workflow
async def pack(ctx: Context, n: int) -> int:
    return await ctx.step(audit, n)

@workflow
async def order(ctx: Context, item: str) -> str:
    held = await ctx.step(reserve, item)
    paid = await ctx.step(charge, 10)
    for n in range(2):
        await ctx.step(audit, n)
    await ctx.run(pack, 1)
    await asyncio.sleep(0.01)
    answer = await ctx.ask(HumanTask(title="Ship it?"))
    return await ctx.step(ship, held)

@workflow
async def waiting(ctx: Context, item: str) -> str:
    held = await ctx.step(reserve, item)
    await ctx.send(ctx.run_id, "told", {"n": 1})
    await ctx.receive("told")
    paid = await ctx.receive("paid", int)
    return f"{held} for {paid}"
"""


@dataclass(frozen=True)
class Change:
    """An edit of the program, and the verdict on a run of ``order`` that waits at its question."""

    old: str
    new: str
    path: str = ""
    expected: str = ""
    found: str = ""
    mend: str = ""
    line: str = ""


CHARGE = "    paid = await ctx.step(charge, 10)\n"
RESERVE = "    held = await ctx.step(reserve, item)\n"
ORDER_RESERVE = f"{RESERVE}{CHARGE}"
ASK = '    answer = await ctx.ask(HumanTask(title="Ship it?"))\n'
INSPECT = "    await ctx.step(inspect, 7)\n"
GUARD = 'if ctx.patched("inspect")'

BLOCKS = {
    "rename": Change("charge", "bill", "charge#1", "step shop:charge", "shop:bill", "was it renamed to shop:bill?"),
    "reorder": Change(ORDER_RESERVE, CHARGE + RESERVE, "reserve#1", "shop:reserve", "shop:charge", "that order"),
    "insert": Change(CHARGE, INSPECT + CHARGE, "charge#1", "shop:charge", "shop:inspect", GUARD, INSPECT),
    "insert of a call that is made later too": Change(
        CHARGE, f"    await ctx.step(audit, 7)\n{CHARGE}", "charge#1", "shop:charge", "shop:audit", 'patched("audit")'
    ),
    "insert at the wait": Change(ASK, INSPECT + ASK, "@ask#1", "a person's answer", "inspect#1", GUARD, INSPECT),
    "delete": Change(CHARGE, "", "charge#1", "shop:charge", "shop:audit", 'if not ctx.patched("without-charge")'),
    "change input": Change("charge, 10", "charge, 11", "charge#1", "shop:charge (input", "shop:charge (input", "given"),
    "more rounds": Change("range(2)", "range(3)", "@run:pack#1", "child run shop:pack", "audit#3", 'patched("audit")'),
    "fewer rounds": Change("range(2)", "range(1)", "audit#2", "shop:audit", "shop:pack", "keep the call of audit"),
    "branch before the wait": Change(
        ASK, f"    if paid:\n    {INSPECT}{ASK}", "@ask#1", "a person's answer", "shop:inspect", GUARD, f"    {INSPECT}"
    ),
    "dependency: another result": Change(
        "async def charge(amount: int) -> int:", "async def charge(amount: int) -> list[int]:", "charge#1",
        "fits its type", "does not fit its type", "let the type of the result take the old value too",
    ),
    "dependency: another function of this name": Change(
        "async def charge(amount: int) -> int:\n    return amount\n",
        "async def euros(amount: int) -> int:\n    return amount\n\ncharge = step(name='charge')(euros.fn)\n",
        "charge#1", "shop:charge", "shop:euros", "was it renamed to shop:euros?",
    ),
    "child input": Change("pack, 1)", "pack, 2)", "@run:pack#1", "child run shop:pack (input", "(input", "given"),
    "another child of this name": Change(
        "async def pack(ctx: Context, n: int) -> int:\n    return await ctx.step(audit, n)\n",
        "async def crate(ctx: Context, n: int) -> int:\n    return n\n\npack = workflow(name='pack')(crate.fn)\n",
        "@run:pack#1", "child run shop:pack", "child run shop:crate", "put shop:pack back",
    ),
    "a timer that has fired": Change(
        "sleep(0.01)", "sleep(5)", "@timer#1", "a timer (due", "a timer (due", 'patched("timer-length")'
    ),
    "the kind of an open question": Change(
        'title="Ship it?"', 'title="Ship it?", kind="respond"', "@ask#1", "answer (question", "'Ship it?' (question",
        'patched("ask-question")',
    ),
    "the value of an open question": Change(
        'title="Ship it?"', 'title="Ship it?", value=paid', "@ask#1", "answer (question", "'Ship it?' (question",
        "to another question",
    ),
    "question gone": Change(ASK, "", "@ask#1", "a person's answer", "ship#1", 'if ctx.patched("ship")'),
}  # fmt: skip

GOES_ON = {
    "nothing": Change("", ""),
    "branch after the wait": Change(ASK, f"{ASK}    if answer.approved:\n    {INSPECT}"),
    "branch before the wait that is not taken": Change(ASK, f"    if paid > 50:\n    {INSPECT}{ASK}"),
    "patched insert": Change(CHARGE, f'    if ctx.patched("inspect"):\n    {INSPECT}{CHARGE}'),
    "patched input": Change("charge, 10", 'charge, 11 if ctx.patched("price") else 10'),
    "dependency: an optional parameter": Change("charge(amount: int)", "charge(amount: int, cents: int = 0)"),
    "dependency: a wider result": Change("charge(amount: int) -> int", "charge(amount: int) -> int | None"),
    "what is after the wait": Change("ctx.step(ship, held)", "ctx.step(ship, held + '!')"),
}


async def waiting_run(path: Path, workflow: str = "order") -> str:
    program = deploy(BEFORE)
    async with engine(path) as running:
        handle = await running.start(getattr(program, workflow), "tea")
        while not (handle.row.status == "waiting" and waits_for(running.journal(handle.run_id)[-1])):
            assert handle.row.status != "blocked", handle.row.detail
            await asyncio.sleep(0.005)
        return handle.run_id


def waits_for(last: events.AnyEvent) -> bool:
    """Whether a run has come to its question, or to the message that it waits for."""
    return isinstance(last, events.Parked) and last.waiting[0].startswith(("@ask", "@receive:paid"))


async def verdict_on(path: Path, change: Change) -> Verdict:
    """The verdict on the only run, from a store in which nothing changes."""
    assert not change.old or change.old in BEFORE
    deploy(BEFORE.replace(change.old, change.new) if change.old else BEFORE)
    async with engine(path, worker=False) as looking:
        before = [(row, looking.store.events(row.no)) for row in looking.runs()]
        (verdict,) = check_runs(looking.store, open_runs(looking.store), stall_s=0.5)
        assert [(row, looking.store.events(row.no)) for row in looking.runs()] == before
    return verdict


async def what_the_engine_does(path: Path, run_id: str, verdict: Verdict) -> str:
    """Take the run up with the code that is deployed: on a copy, and as somebody answers."""
    async with engine(copy_of(path, f"copy-{verdict.outcome}.db")) as running:
        await running.answer(run_id, "@ask#1", Answer(approved=True, by="Ada"))
        handle = await running.resume(run_id)
        if verdict.outcome == "blocks":
            with pytest.raises(RunBlocked) as blocked:
                await handle.result()
            return "blocks" if blocked.value.detail == verdict.problem else blocked.value.detail
        await handle.result()
        return "goes_on"


@pytest.mark.parametrize("kind", BLOCKS)
def test_a_change_that_the_journal_does_not_fit_is_reported_and_blocks(kind: str, tmp_path: Path) -> None:
    change, path = BLOCKS[kind], tmp_path / "shop.db"

    async def main() -> None:
        run_id = await waiting_run(path)
        verdict = await verdict_on(path, change)
        assert (verdict.run_id, verdict.outcome, verdict.path) == (run_id, "blocks", change.path), verdict
        assert change.expected in verdict.expected
        assert change.found in verdict.found
        assert change.mend in verdict.mend, verdict.mend
        lines = BEFORE.replace(change.old, change.new).splitlines()
        file, _, number = verdict.where.rpartition(":")
        assert file == "shop.py"
        if change.line:
            assert lines[int(number) - 1] == change.line.rstrip("\n")
        assert await what_the_engine_does(path, run_id, verdict) == "blocks"

    asyncio.run(main())


@pytest.mark.parametrize("kind", GOES_ON)
def test_a_change_that_the_journal_fits_goes_on(kind: str, tmp_path: Path) -> None:
    change, path = GOES_ON[kind], tmp_path / "shop.db"

    async def main() -> None:
        run_id = await waiting_run(path)
        verdict = await verdict_on(path, change)
        assert (verdict.outcome, verdict.problem, verdict.note) == ("goes_on", "", ""), verdict
        assert await what_the_engine_does(path, run_id, verdict) == "goes_on"

    asyncio.run(main())


@pytest.mark.parametrize(
    ("old", "new", "outcome", "says"),
    [
        ('"paid", int)', '"paid", str)', "goes_on", ""),
        (
            'receive("paid", int)',
            'receive("bill", int)',
            "goes_on",
            "no longer wait for @receive:paid#1; it would go on",
        ),
        ('    paid = await ctx.receive("paid", int)\n', "    paid = 1\n", "goes_on", "not wait any more: completed"),
        ('    paid = await ctx.receive("paid", int)\n', "    paid = 1 // 0\n", "fails", "ZeroDivisionError"),
        ('    paid = await ctx.receive("paid", int)\n', "    while True: pass\n", "blocks", "did not yield"),
        ('{"n": 1}', '{"n": 2}', "blocks", "a message to"),
        ("async def waiting(", "async def renamed(", "blocks", "no workflow is named 'shop:waiting'"),
    ],
    ids=["type", "name", "gone", "fails", "spins", "message value", "workflow gone"],
)
def test_runs_that_wait_for_a_message(old: str, new: str, outcome: str, says: str, tmp_path: Path) -> None:
    async def main() -> None:
        await waiting_run(tmp_path / "shop.db", "waiting")
        verdict = await verdict_on(tmp_path / "shop.db", Change(old, new))
        assert verdict.outcome == outcome, verdict
        assert says in verdict.problem + verdict.note
        if outcome == "fails":
            async with engine(tmp_path / "shop.db") as running:
                await running.signal(verdict.run_id, "nudge")
                handle = await running.resume(verdict.run_id)
                with pytest.raises(RunFailed, match="ZeroDivisionError"):
                    await handle.result()

    asyncio.run(main())


def test_another_wording_of_an_open_question_is_a_note(tmp_path: Path) -> None:
    async def main() -> None:
        run_id = await waiting_run(tmp_path / "shop.db")
        reworded = Change('title="Ship it?"', 'title="Shall we ship it?", details={"paid": paid}')
        verdict = await verdict_on(tmp_path / "shop.db", reworded)
        says = "the question at @ask#1 is worded otherwise now; it stays as it was asked"
        assert (verdict.outcome, verdict.note) == ("goes_on", says)
        assert await what_the_engine_does(tmp_path / "shop.db", run_id, verdict) == "goes_on"

    asyncio.run(main())


def test_another_input_of_a_step_that_is_about_to_be_tried_again_blocks(tmp_path: Path) -> None:
    """It would be repeated under the key of what was tried before."""
    flaky = (
        BEFORE
        + """
from cadenza import Retry

@step(retry=Retry(attempts=3, delay_s=3600))
async def fetch(n: int) -> int:
    raise ConnectionError("again")

@workflow
async def tries(ctx: Context, n: int) -> int:
    return await ctx.step(fetch, n)
"""
    )

    async def main() -> None:
        program = deploy(flaky)
        async with engine(tmp_path / "shop.db") as running:
            handle = await running.start(program.tries, 5)
            while handle.row.status != "waiting":
                await asyncio.sleep(0.005)
        deploy(flaky.replace("ctx.step(fetch, n)", "ctx.step(fetch, n + 1)"))
        async with engine(tmp_path / "shop.db", worker=False) as looking:
            (verdict,) = check_runs(looking.store, open_runs(looking.store))
        assert (verdict.outcome, verdict.path) == ("blocks", "fetch#1")
        assert "fetch-input" in verdict.mend
        async with engine(tmp_path / "shop.db") as running:
            await running.signal(handle.run_id, "nudge")
            woken = await running.resume(handle.run_id)
            with pytest.raises(RunBlocked, match="fetch"):
                await woken.result()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("old", "new", "outcome", "says"),
    [
        ("", "", "goes_on", ""),
        ('    return f"{held} for', '    1 // 0\n    return f"{held} for', "fails", "ZeroDivisionError"),
        ('    return f"{held} for', "    open('x')\n    return f\"{held} for", "blocks", "workflow code called open"),
        ('    return f"{held} for', "    ctx.patched('a b')\n    return f\"{held} for", "blocks", "no name of a patch"),
    ],
    ids=["fits", "raises", "does I/O", "is no name"],
)
def test_a_message_that_waits_in_the_inbox_is_taken_into_account(
    old: str, new: str, outcome: str, says: str, tmp_path: Path
) -> None:
    """It arrived while no worker was there, and is the first thing that the new code gets to see."""

    async def main() -> None:
        run_id = await waiting_run(tmp_path / "shop.db", "waiting")
        async with engine(tmp_path / "shop.db", worker=False) as sender:
            await sender.signal(run_id, "paid", 5)
        verdict = await verdict_on(tmp_path / "shop.db", Change(old, new))
        assert (verdict.outcome, says in verdict.problem, verdict.note) == (outcome, True, ""), verdict
        async with engine(tmp_path / "shop.db") as running:
            handle = await running.resume(run_id)
            if outcome == "goes_on":
                assert await handle.result() == "held tea for 5"
            else:
                with pytest.raises(RunBlocked if outcome == "blocks" else RunFailed) as caught:
                    await handle.result()
                assert says in str(caught.value)

    asyncio.run(main())


def test_an_answer_and_a_cancellation_in_the_inbox_are_taken_into_account(tmp_path: Path) -> None:
    async def main() -> None:
        run_id = await waiting_run(tmp_path / "shop.db")
        after = Change(ASK, f"{ASK}    if answer.approved:\n        1 // 0\n")
        assert (await verdict_on(tmp_path / "shop.db", after)).outcome == "goes_on"
        async with engine(tmp_path / "shop.db", worker=False) as answering:
            await answering.answer(run_id, "@ask#1", Answer(approved=True, by="Ada"))
        assert (await verdict_on(tmp_path / "shop.db", after)).outcome == "fails"
        assert (await verdict_on(tmp_path / "shop.db", Change("", ""))).outcome == "goes_on"
        async with engine(tmp_path / "shop.db", worker=False) as cancelling:
            await cancelling.cancel(run_id, "enough")
        assert (await verdict_on(tmp_path / "shop.db", Change("", ""))).outcome == "goes_on"

    asyncio.run(main())


def test_a_run_that_would_begin_to_undo_fails(tmp_path: Path) -> None:
    saga = BEFORE.replace("@step\nasync def reserve", '@step(effect="compensatable", undo=print)\nasync def reserve')

    async def main() -> None:
        program = deploy(saga)
        async with engine(tmp_path / "shop.db") as running:
            handle = await running.start(program.order, "tea")
            while not (handle.row.status == "waiting" and waits_for(running.journal(handle.run_id)[-1])):
                await asyncio.sleep(0.005)
        deploy(saga.replace(ASK, "    1 // 0\n" + ASK))
        async with engine(tmp_path / "shop.db", worker=False) as looking:
            (verdict,) = check_runs(looking.store, open_runs(looking.store))
        assert verdict.outcome == "blocks"  # the question is open, and the code does not come to it
        deploy(saga.replace(ASK, ASK + "    1 // 0\n"))
        async with engine(tmp_path / "shop.db", worker=False) as looking:
            await looking.answer(handle.run_id, "@ask#1", Answer(approved=True, by="Ada"))
            (verdict,) = check_runs(looking.store, open_runs(looking.store))
        assert (verdict.outcome, "undo reserve#1" in verdict.problem) == ("fails", True), verdict

    asyncio.run(main())


def test_a_timer_that_is_due_is_taken_into_account(tmp_path: Path) -> None:
    timed = BEFORE + "\n@workflow\nasync def soon(ctx: Context) -> int:\n    await asyncio.sleep(0.3)\n    return 1\n"

    async def main() -> None:
        program = deploy(timed)
        async with engine(tmp_path / "shop.db") as running:
            handle = await running.start(program.soon)
            while handle.row.status != "waiting":
                await asyncio.sleep(0.005)
        deploy(timed.replace("return 1", "return 1 // 0"))
        async with engine(tmp_path / "shop.db", worker=False) as looking:
            (row,) = open_runs(looking.store)
            while looking.clock.now() < row.wake_at:
                await asyncio.sleep(0.05)
            (verdict,) = check_runs(looking.store, open_runs(looking.store))
        assert verdict.outcome == "fails"

    asyncio.run(main())


def test_another_length_of_a_timer_is_a_note(tmp_path: Path) -> None:
    timed = (
        BEFORE
        + "\n@workflow\nasync def later(ctx: Context, hours: int) -> None:\n    await asyncio.sleep(hours * 3600)\n"
    )

    async def main() -> None:
        program = deploy(timed)
        async with engine(tmp_path / "shop.db") as running:
            handle = await running.start(program.later, 5)
            while handle.row.status != "waiting":
                await asyncio.sleep(0.005)
        deploy(timed.replace("hours * 3600", "(hours + 1) * 3600"))
        async with engine(tmp_path / "shop.db", worker=False) as looking:
            (verdict,) = check_runs(looking.store, open_runs(looking.store))
        assert (verdict.outcome, verdict.note) == ("goes_on", "its timer would fire 1.00 hours later")

    asyncio.run(main())


def test_the_command_tells_which_runs_would_block_and_where(tmp_path: Path) -> None:
    cadenza = Project(tmp_path)
    order = '{"id": 1, "item": "tea"}'
    cadenza("run", "flows.py:checkout", order)
    cadenza("run", "flows.py:checkout", order)
    cadenza("run", "flows.py:messages")
    fine = cadenza("check-deploy")
    assert (fine.code, "3 runs under way: all go on with this code." in fine.err) == (0, True), fine.err
    cadenza.edit("receipt = await ctx.step(charge, order)", "receipt = await ctx.step(double, order.id)")
    done = cadenza("check-deploy", "flows.py")
    assert done.code == 4
    assert "2 runs of flows:checkout would block at charge#1" in done.out
    assert "flows.py:" in done.out
    assert "2 of 3 runs under way would not go on" in done.err
    verdicts: list[dict[str, Any]] = json.loads(cadenza("check-deploy", "--json").out)
    assert sorted(each["outcome"] for each in verdicts) == ["blocks", "blocks", "goes_on"]
    assert {each["status"] for each in verdicts} == {"waiting"}
    (tmp_path / "flows.py").write_text("import nothing_of_this_name\n", encoding="utf-8")
    broken = cadenza("check-deploy")
    assert (broken.code, "nothing_of_this_name" in broken.out) == (4, True)
    (tmp_path / "flows.py").unlink()
    assert "there is no module 'flows'" in cadenza("check-deploy").out


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    done = Project(tmp_path)("check-deploy", "--store", "nowhere.db")
    assert (done.code, "there is no store" in done.err) == (5, True)
    assert not (tmp_path / "nowhere.db").exists()
