"""Forks, retries and resets: what is copied, what is done again, and what is refused."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from cadenza import Answer, Engine, InputInvalid, RunCancelled, RunFailed, RunHandle, UnknownName
from cadenza.cli.history import read_history
from cadenza.durable import events
from cadenza.errors import CadenzaError, Nondeterminism, UsageError
from tests.acceptance.commands import Project
from tests.acceptance.deploys import deploy, engine

PROGRAM = """
import asyncio
from cadenza import Context, HumanTask, StepError, step, workflow

done = []
broken = set()

@step
async def work(name: str, n: int = 0) -> int:
    done.append(name)
    if name in broken:
        raise ValueError(name)
    return n + 1

@step(effect="irreversible", raises=(KeyError,))
async def pay(name: str) -> str:
    done.append(f"pay {name}")
    if "pay" in broken:
        raise KeyError(name)
    return f"paid {name} {step.key()}"

@step(effect="compensatable", undo=lambda receipt: done.append(f"undo {receipt}"))
async def book(name: str) -> str:
    done.append(f"book {name}")
    return name

@step
async def memos(name: str) -> int:
    total = 0
    for each in range(3):
        total += await step.memo(f"m{each}", lambda: done.append(f"memo {each}") or 1)
    if name in broken:
        raise ValueError(name)
    return total

@workflow
async def line(ctx: Context, n: int) -> dict:
    first = str(ctx.uuid())
    a = await ctx.step(work, "a", n)
    b = await ctx.step(work, "b", a)
    c = await ctx.step(work, "c", b)
    return {"first": first, "last": str(ctx.uuid()), "c": c, "run_id": ctx.run_id}

@workflow
async def asks(ctx: Context) -> str:
    a = await ctx.step(work, "a")
    answer = await ctx.ask(HumanTask("Go on?"))
    return f"{await ctx.step(pay, ctx.run_id)} {answer.approved}"

@workflow
async def memory(ctx: Context) -> int:
    return await ctx.step(memos, "memos")

@step
async def model(name: str) -> str:
    used = {"usage": {"input_tokens": 5, "output_tokens": 7}, "model_name": "m"}
    request = {"response": used, "agent": name, "price_usd": 0.5, "latency_s": 1.0}
    await step.memo("request/0", lambda: request)
    return name

@workflow
async def models(ctx: Context) -> list[str]:
    return [await ctx.step(model, each) for each in ("first", "second")]

@workflow
async def inner(ctx: Context, name: str) -> str:
    await ctx.step(work, f"{name} begins")
    word = await ctx.receive("word", str) if name == "slow" else "quick"
    await ctx.step(pay, name)
    return word

@workflow
async def outer(ctx: Context) -> list[str]:
    await ctx.step(work, "a")
    return await asyncio.gather(ctx.run(inner, "quick"), ctx.run(inner, "slow"))

@workflow
async def beginning(ctx: Context) -> str:
    child = ctx.start(inner, "slow")
    await ctx.step(work, "b")
    return await child.result()

@workflow
async def beside(ctx: Context) -> list[int]:
    async def branch(name: str) -> int:
        await ctx.step(work, f"{name}1")
        return await ctx.step(work, f"{name}2")
    found = await asyncio.gather(*(branch(each) for each in "xyz"), return_exceptions=True)
    for each in found:
        if isinstance(each, Exception):
            raise each
    return found

@workflow
async def saga(ctx: Context) -> str:
    await ctx.step(work, "a")
    room = await ctx.step(book, "room")
    await ctx.step(work, "b")
    return room

@workflow
async def rounds(ctx: Context, n: int) -> int:
    if n in (0, 3):
        ctx.set_attributes(begun=n == 0, latest=n) if n == 0 else ctx.set_attributes(latest=n)
    await ctx.step(work, f"round {n}")
    if n < 3:
        ctx.continue_as_new(n + 1)
    await ctx.receive("end")
    return await ctx.step(work, "end", n)

@workflow
async def inbox(ctx: Context) -> list[int]:
    await ctx.step(work, "a")
    found = [await ctx.receive("n", int) for _ in range(2)]
    await ctx.step(work, "b")
    return found

@workflow
async def limited(ctx: Context) -> int:
    async with asyncio.timeout(1.5):
        return await ctx.step(work, "a")

@step
async def hang(name: str) -> str:
    done.append(name)
    while name in broken:
        await asyncio.sleep(0.005)
    return name

@workflow
async def late(ctx: Context) -> str:
    await ctx.step(work, "a")
    async with asyncio.timeout(1.5):
        return await ctx.step(hang, "slow")

@workflow
async def own_fault(ctx: Context) -> None:
    await ctx.step(work, "a")
    raise RuntimeError("by itself")
"""


class World:
    """An engine with the program, as a test sees them."""

    def __init__(self, running: Engine, program: Any) -> None:
        self.engine, self.program = running, program

    @property
    def done(self) -> list[str]:
        return self.program.done

    async def start(self, name: str, value: Any = None, **options: Any) -> RunHandle[Any]:
        return await self.engine.start(getattr(self.program, name), value, **options)

    async def failed(self, name: str, *broken: str, **options: Any) -> RunHandle[Any]:
        """A run that has failed since these are broken; they are mended now, and nothing was done."""
        self.program.broken.update(broken)
        handle = await self.start(name, **options)
        with pytest.raises(RunFailed):
            await handle.result()
        self.program.broken.clear()
        self.done.clear()
        return handle

    async def yes(self, handle: RunHandle[Any]) -> Any:
        await handle.settled()
        await self.engine.answer(handle.run_id, "@ask#1", Answer(approved=True, by="Ada"))
        return await handle.result()

    def kinds(self, handle: RunHandle[Any]) -> list[str]:
        return [type(each).__name__ for each in self.engine.journal(handle.run_id)]


Test = Callable[[World], Awaitable[None]]
Run = Callable[[Test], None]


@pytest.fixture(params=["sqlite", "memory"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    def on_store(test: Test) -> None:
        async def main() -> None:
            program = deploy(PROGRAM)
            place = tmp_path / "shop.db" if request.param == "sqlite" else Path(":memory:")
            async with engine(place, verify_replay=True) as running:
                await test(World(running, program))

        asyncio.run(main())

    return on_store


# --- what a fork is ---------------------------------------------------------------------------------------------------


def test_a_fork_does_again_what_comes_after_its_path_and_nothing_else(run: Run) -> None:
    async def test(world: World) -> None:
        origin = await world.start("line", 1)
        was, before = await origin.result(), world.engine.journal(origin.run_id)
        world.done.clear()
        forked = await world.engine.fork(origin.run_id, at="work#2")
        now = await forked.result()
        assert world.done == ["b", "c"]
        assert (now["first"], now["c"]) == (was["first"], was["c"])
        assert now["last"] != was["last"]  # chance is its own from there on
        assert now["run_id"] == forked.run_id != origin.run_id
        assert world.engine.journal(origin.run_id) == before
        assert world.engine.journal(forked.run_id)[1:2] == before[1:2]
        (mark,) = [each for each in world.engine.journal(forked.run_id) if isinstance(each, events.Forked)]
        assert (mark.origin, mark.through, mark.before, mark.how) == (origin.run_id, 2, "work#2", "fork")

    run(test)


def test_an_output_is_given_instead_of_doing_the_step(run: Run) -> None:
    async def test(world: World) -> None:
        origin = await world.start("line", 1)
        await origin.result()
        world.done.clear()
        forked = await world.engine.fork(origin.run_id, outputs={"work#2": 100})
        assert (await forked.result())["c"] == 101
        assert world.done == ["c"]
        assert (await origin.result())["c"] == 4

    run(test)


def test_a_fork_of_a_fork_of_a_fork(run: Run) -> None:
    async def test(world: World) -> None:
        handle = await world.start("line", 1)
        first = (await handle.result())["first"]
        for path, c in (("work#3", 4), ("work#2", 4), ("work#3", 4)):
            handle = await world.engine.fork(handle.run_id, at=path)
            result = await handle.result()
            assert (result["first"], result["c"], result["run_id"]) == (first, c, handle.run_id)
        assert world.kinds(handle).count("Forked") == 2  # the second began before the first did
        assert world.done == ["a", "b", "c", "c", "b", "c", "c"]

    run(test)


def test_open_questions_are_asked_again_and_answered_apart(run: Run) -> None:
    async def test(world: World) -> None:
        origin = await world.start("asks")
        await origin.settled()
        forked = await world.engine.fork(origin.run_id, at="@ask#1")
        await forked.settled()
        assert {row.run_id for row, _ in world.engine.tasks()} == {origin.run_id, forked.run_id}
        assert await world.yes(forked) == f"paid {forked.run_id} {forked.run_id}:0:pay#1 True"
        assert await world.yes(origin) == f"paid {origin.run_id} {origin.run_id}:0:pay#1 True"
        answered = await world.engine.fork(
            origin.run_id, outputs={"@ask#1": {"approved": False}}, redo_irreversible=True
        )
        assert (await answered.result()).endswith("False")
        assert world.done.count("a") == 1

    run(test)


def test_irreversible_work_is_done_again_only_at_an_explicit_word(run: Run) -> None:
    async def test(world: World) -> None:
        origin = await world.start("asks")
        await world.yes(origin)
        with pytest.raises(
            UsageError, match=r"irreversible work would be done again: pay#1\. .*redo_irreversible=True"
        ):
            await world.engine.fork(origin.run_id, at="@ask#1")
        given = await world.engine.fork(origin.run_id, at="pay#1", outputs={"pay#1": "by hand"})
        assert await given.result() == "by hand True"
        again = await world.engine.fork(origin.run_id, at="pay#1", redo_irreversible=True)
        assert await again.result() == f"paid {origin.run_id} {again.run_id}:0:pay#1 True"  # its argument is copied
        assert [each for each in world.done if each.startswith("pay")] == [
            f"pay {origin.run_id}",
            f"pay {origin.run_id}",
        ]

    run(test)


def test_children_that_completed_are_kept_and_others_started_anew(run: Run) -> None:
    async def test(world: World) -> None:
        origin = await world.start("outer")
        await origin.settled()
        world.done.clear()
        forked = await world.engine.fork(origin.run_id, at="@run:inner#2")
        await forked.settled()
        assert world.done == ["slow begins"]
        child = next(each for each in world.engine.runs() if each.parent == forked.run_id)
        await world.engine.signal(child.run_id, "word", "fork")
        assert await forked.result() == ["quick", "fork"]
        (old,) = [each for each in world.engine.runs() if each.parent == origin.run_id and not each.ended]
        await world.engine.signal(old.run_id, "word", "origin")
        assert await origin.result() == ["quick", "origin"]
        with pytest.raises(UsageError, match=f"{old.run_id}:pay#1"):
            await world.engine.fork(origin.run_id, at="@run:inner#2")
        given = await world.engine.fork(origin.run_id, at="@run:inner#2", outputs={"@run:inner#2": "given"})
        assert await given.result() == ["quick", "given"]

    run(test)


def test_only_the_current_generation_can_be_forked(run: Run) -> None:
    async def test(world: World) -> None:
        origin = await world.start("rounds", 0)
        await origin.settled()
        world.done.clear()
        with pytest.raises(UsageError, match="no event of the current generation"):
            await world.engine.fork(origin.run_id, at=2)
        forked = await world.engine.fork(origin.run_id, at="work#1")
        await forked.settled()
        assert (world.done, forked.row.generation) == (["round 3"], 3)
        assert world.engine.store.attributes([forked.row.no]) == {forked.row.no: {"begun": True, "latest": 3}}
        await forked.signal("end")
        assert await forked.result() == 4
        await origin.signal("end")
        assert await origin.result() == 4

    run(test)


def test_a_deadline_that_was_open_is_put_off_by_the_time_between(run: Run) -> None:
    async def test(world: World) -> None:
        origin = await world.failed("limited", "a")
        while world.engine.clock.now() < world.engine.journal(origin.run_id)[0].at + 1_600_000:
            await asyncio.sleep(0.05)
        assert await (await world.engine.retry(origin.run_id)).result() == 1  # else it would be late from the start

    run(test)


# --- bad input --------------------------------------------------------------------------------------------------------


def test_forks_that_make_no_sense_are_refused_and_nothing_is_made(run: Run) -> None:
    async def test(world: World) -> None:
        origin = await world.start("line", 1)
        await origin.result()
        cases: list[tuple[dict[str, Any], type[CadenzaError], str]] = [
            ({"at": "wrk#2"}, UnknownName, "Did you mean 'work#2'"),
            ({"at": 99}, UsageError, "take 2 to 5"),
            ({"at": 0}, UsageError, "take 2 to 5"),
            ({}, UsageError, "a fork needs a path"),
            ({"at": "work#2", "outputs": {"work#2": "many"}}, InputInvalid, "valid integer"),
            ({"at": "work#1", "outputs": {"work#3": 1}}, UnknownName, "path before the cut"),
            ({"at": "work#3", "outputs": {"work#1": 7}}, UsageError, "Fork at work#1"),
        ]
        for arguments, kind, says in cases:
            with pytest.raises(kind, match=says):
                await world.engine.fork(origin.run_id, **arguments)
        with pytest.raises(UnknownName, match="no run is named"):
            await world.engine.fork("nobody", at="work#1")
        assert len(world.engine.runs()) == 1

    run(test)


def test_a_run_that_is_running_is_not_forked(tmp_path: Path) -> None:
    async def main() -> None:
        deploy(PROGRAM)
        async with engine(tmp_path / "shop.db") as running:
            handle = await running.start("line", 1)
            assert handle.row.status == "running"
            with pytest.raises(UsageError, match="is running"):
                await running.fork(handle.run_id, at="work#1")

    asyncio.run(main())


def test_code_that_does_not_fit_the_origin_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        deploy(PROGRAM)
        async with engine(tmp_path / "shop.db") as running:
            handle = await running.start("line", 1)
            await handle.result()
            deploy(PROGRAM.replace('"a", n)', '"A", n)'))
            with pytest.raises(Nondeterminism) as refused:
                await running.fork(handle.run_id, at="work#3")
            assert refused.value.path == "work#1"
            assert len(running.runs()) == 1

    asyncio.run(main())


# --- retry ------------------------------------------------------------------------------------------------------------


def test_a_retry_begins_with_the_step_that_failed_and_takes_over_the_id(run: Run) -> None:
    async def test(world: World) -> None:
        origin = await world.failed("line", "b", value=1, id="order-1")
        again = await world.engine.retry("order-1")
        assert (await again.result())["c"] == 4
        assert world.done == ["b", "c"]
        assert world.engine.find("order-1").run_id == again.run_id
        assert (origin.row.status, origin.row.business_id) == ("failed", "")

    run(test)


def test_a_retry_keeps_sub_results_and_what_went_well_in_other_branches(run: Run) -> None:
    async def test(world: World) -> None:
        await (await world.engine.retry((await world.failed("memory", "memos")).run_id)).result()
        assert world.done == []  # three memos were saved before it failed
        origin = await world.failed("beside", "y1")
        assert await (await world.engine.retry(origin.run_id)).result() == [1, 1, 1]
        assert world.done == ["y1", "y2"]

    run(test)


def test_a_retry_begins_with_what_was_undone(run: Run) -> None:
    async def test(world: World) -> None:
        origin = await world.failed("saga", "b")
        with pytest.raises(UsageError, match="book#1 was undone"):
            await world.engine.fork(origin.run_id, at="work#2")
        assert await (await world.engine.retry(origin.run_id)).result() == "room"
        assert world.done == ["book room", "b"]

    run(test)


def test_a_step_that_is_known_not_to_have_happened_needs_no_word(run: Run) -> None:
    async def test(world: World) -> None:
        world.program.broken.add("pay")
        origin = await world.start("asks")
        with pytest.raises(RunFailed):
            await world.yes(origin)
        world.program.broken.clear()
        again = await world.engine.retry(origin.run_id)
        assert (await again.result()).startswith("paid")
        assert world.done.count("a") == 1

    run(test)


def test_a_cancelled_run_is_retried_from_where_it_was_cancelled(run: Run) -> None:
    async def test(world: World) -> None:
        for force in (False, True):
            world.done.clear()
            origin = await world.start("inbox")
            await origin.signal("n", 1)
            await origin.settled()
            await world.engine.cancel(origin.run_id, "by mistake", force=force)
            with pytest.raises(RunCancelled):
                await origin.result()
            again = await world.engine.retry(origin.run_id)
            await again.signal("n", 2)
            assert await again.result() == [1, 2]
            assert world.done == ["a", "b"]

    run(test)


def test_retries_that_make_no_sense_are_refused(run: Run) -> None:
    async def test(world: World) -> None:
        done = await world.start("line", 1)
        await done.result()
        waits = await world.start("outer")
        await waits.settled()
        child = next(each for each in world.engine.runs() if each.parent == waits.run_id)
        fault = await world.failed("own_fault")
        cases = [(done, "completed; only a failed"), (waits, "waiting; only a failed"), (fault, "would fail at once")]
        for handle, says in cases:
            with pytest.raises(UsageError, match=says):
                await world.engine.retry(handle.run_id)
        with pytest.raises(UsageError, match="is a child run"):
            await world.engine.retry(child.run_id)

    run(test)


def test_a_run_that_was_too_late_is_retried_with_the_time_that_it_had(run: Run) -> None:
    async def test(world: World) -> None:
        origin = await world.failed("late", "slow")
        assert await (await world.engine.retry(origin.run_id)).result() == "slow"
        assert world.done == ["slow"]

    run(test)


def test_a_run_is_retried_once_and_then_its_retry(run: Run) -> None:
    async def test(world: World) -> None:
        origin = await world.failed("line", "b", value=1)
        world.program.broken.add("b")
        again = await world.engine.retry(origin.run_id)
        with pytest.raises(UsageError, match=f"was retried already: run {again.run_id}"):
            await world.engine.retry(origin.run_id)
        with pytest.raises(RunFailed):
            await again.result()
        world.program.broken.clear()
        assert (await (await world.engine.retry(again.run_id)).result())["c"] == 4
        assert world.done == ["b", "b", "c"]

    run(test)


def test_children_go_on_from_their_own_failures(run: Run) -> None:
    async def test(world: World) -> None:
        world.program.broken.add("pay")
        origin = await world.start("outer")
        with pytest.raises(RunFailed):
            await origin.result()
        world.program.broken.clear()
        while not all(each.ended for each in world.engine.runs()):
            await asyncio.sleep(0.005)  # the other child was asked to stop
        assert {"a", "quick begins", "slow begins"} <= set(world.done)
        world.done.clear()
        again = await world.engine.retry(origin.run_id)
        await again.settled()
        slow = next(each for each in world.engine.runs() if each.parent == again.run_id and not each.ended)
        await world.engine.signal(slow.run_id, "word", "now")
        assert await again.result() == ["quick", "now"]
        assert world.done == ["pay quick", "pay slow"]
        nested = world.engine.runs()
        assert len(nested) == 6
        assert all(each.parent in ("", origin.run_id, again.run_id) for each in nested)

    run(test)


def test_a_retry_waits_for_children_that_go_on(run: Run) -> None:
    async def test(world: World) -> None:
        world.program.broken.add("b")
        origin = await world.start("beginning")
        with pytest.raises(RunFailed):
            await origin.result()
        world.program.broken.clear()
        child = next(each for each in world.engine.runs() if each.parent)
        with pytest.raises(UsageError, match=f"child run {child.run_id} of run {origin.run_id} goes on"):
            await world.engine.retry(origin.run_id)
        await world.engine.signal(child.run_id, "word", "late")
        await world.engine.handle(child.run_id).result()
        assert await (await world.engine.retry(origin.run_id)).result() == "late"
        assert world.done.count("slow begins") == 1

    run(test)


# --- reset ------------------------------------------------------------------------------------------------------------


def test_a_reset_ends_the_run_with_its_children_and_goes_on_from_an_earlier_place(run: Run) -> None:
    async def test(world: World) -> None:
        origin = await world.start("outer", id="trip")
        await origin.settled()
        world.done.clear()
        again = await world.engine.reset("trip", to="@run:inner#2")
        await again.settled()
        assert world.done == ["slow begins"]
        assert world.engine.find("trip").run_id == again.run_id
        old = [each for each in world.engine.runs() if each.run_id.startswith(origin.run_id)]
        assert sorted(each.status for each in old) == ["cancelled", "cancelled", "completed"]
        child = next(each for each in world.engine.runs() if each.parent == again.run_id)
        await world.engine.signal(child.run_id, "word", "new")
        assert await again.result() == ["quick", "new"]

    run(test)


def test_a_reset_receives_later_messages_again(run: Run) -> None:
    async def test(world: World) -> None:
        origin = await world.start("inbox")
        await origin.signal("n", 1)
        await origin.signal("n", 2)
        assert await origin.result() == [1, 2]
        again = await world.engine.reset(origin.run_id, to="work#1")
        assert await again.result() == [1, 2]
        apart = await world.engine.fork(origin.run_id, at="work#1")  # a fork does not
        assert (await apart.settled()).status == "waiting"

    run(test)


def test_a_fork_has_not_paid_for_what_it_copied(run: Run) -> None:
    async def test(world: World) -> None:
        origin = await world.start("models")
        await origin.result()
        forked = await world.engine.fork(origin.run_id, at="model#2")
        await forked.result()
        was, now = (read_history(world.engine, each.row) for each in (origin, forked))
        for history in (was, now):
            assert [(each.agent, each.price_usd) for each in history.used()] == [("first", 0.5), ("second", 0.5)]
        assert (was.copied(), now.copied()) == (0, 1)
        assert [each.agent for item in now.items() for each in item.paid()] == ["second"]

    run(test)


# --- the command line -------------------------------------------------------------------------------------------------


def test_fork_retry_and_reset_on_the_command_line(tmp_path: Path) -> None:
    cadenza = Project(tmp_path)
    cadenza("run", "flows.py:checkout", '{"id": 1, "item": "tea"}', "--id", "o-1")
    forked = cadenza("fork", "o-1", "--at", "charge#1", "--set", 'charge#1="given"', "--json")
    assert forked.code == 0, forked.err
    assert forked.json["origin"] != forked.json["run_id"]
    cadenza("resume", forked.json["run_id"])
    assert cadenza("answer", forked.json["run_id"], "--approve", "--by", "Ada").code == 0
    assert '"receipt": "given"' in cadenza("resume", forked.json["run_id"]).out
    unknown = cadenza("fork", "o-1", "--at", "chrge#1")
    assert (unknown.code, "Did you mean 'charge#1'" in unknown.err) == (2, True)
    wrong = cadenza("fork", "o-1", "--at", "charge#1", "--set", "charge#1")
    assert (wrong.code, "is not PATH=JSON" in wrong.err) == (2, True)
    moved = cadenza("reset", "o-1", "--to", "charge#1")
    assert (moved.code, "The id 'o-1' is that of the new run now" in moved.err) == (0, True)
    assert "forked from" in cadenza("show", "o-1").out
    cadenza("run", "flows.py:failing", "1")
    failed = cadenza.run_id()
    cadenza.edit('return {}["missing"]', "return n")
    retried = cadenza("retry", failed)
    assert (retried.code, "it is a new run" in retried.err) == (0, True)
    assert cadenza("resume", cadenza.run_id()).out.strip() == "1"
