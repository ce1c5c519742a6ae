"""Mistakes of those who call, and of those who write workflows: each gives one clear message, and nothing that was
accepted is lost. What a deploy mends blocks the run; after the deploy it goes on from where it was.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel

from cadenza import (
    Answer,
    Context,
    Engine,
    EngineOptions,
    HumanTask,
    RunBlocked,
    RunFailed,
    RunHandle,
    Skill,
    agent,
    step,
    workflow,
)
from cadenza.durable import define, events
from cadenza.durable.codec import PAYLOAD_BYTES_MAX
from cadenza.errors import (
    DuplicateRun,
    InputInvalid,
    NotSerialisable,
    PayloadTooLarge,
    StepError,
    UnknownName,
    UsageError,
)

PATIENCE_S = 20.0
STALL_S = 0.3
TOO_LARGE = "x" * (PAYLOAD_BYTES_MAX + 1)


@asynccontextmanager
async def engine_on(location: Any = ":memory:", **options: Any) -> AsyncIterator[Engine]:
    async with Engine.open(location, EngineOptions(**options)) as engine, asyncio.timeout(PATIENCE_S):
        yield engine


@pytest.fixture(params=["memory", "sqlite"])
def location(request: pytest.FixtureRequest, tmp_path: Any) -> Any:
    return ":memory:" if request.param == "memory" else tmp_path / "store.db"


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    """What a test deploys, it takes away."""
    steps, workflows = dict(define.steps), dict(define.workflows)
    yield
    define.steps.clear()
    define.steps.update(steps)
    define.workflows.clear()
    define.workflows.update(workflows)


def deploy(code: Callable[..., Any]) -> Any:
    """Register a workflow in the place of the one that was deployed before."""
    code.__module__, code.__qualname__, code.__name__ = "shop", "checkout", "checkout"
    return workflow(code)


def deploy_step(code: Callable[..., Any], name: str, **options: Any) -> Any:
    code.__module__, code.__qualname__, code.__name__ = "shop", name, name
    return step(**options)(code)


async def blocked(handle: RunHandle[Any]) -> str:
    """Why a run is blocked; the same is said by its result and in lists."""
    with pytest.raises(RunBlocked) as caught:
        await handle.result()
    assert handle.row.status == "blocked"
    assert handle.row.detail == caught.value.detail
    assert f"cadenza resume {handle.run_id}" in str(caught.value)
    return caught.value.detail


# --- who calls --------------------------------------------------------------------------------------------------------


class Address(BaseModel):
    street: str
    zip: int


class Order(BaseModel):
    name: str
    lines: list[int]
    address: Address


@workflow
async def checkout(ctx: Context, order: Order) -> str:
    return order.name


@workflow
async def wait_for_go(ctx: Context, number: int) -> int:
    return number + await ctx.receive("go", int)


@agent(description="Says what kind of licence a text is", skills=[Skill("classify-licence")])
async def classifier(text: str) -> str:
    return text.upper()


@step
async def double(number: int) -> int:
    return number * 2


def test_unknown_workflow_names_the_nearest() -> None:
    async def main() -> None:
        async with engine_on() as engine:
            name = wait_for_go.name.replace("wait_for_go", "wait_for_goo")
            with pytest.raises(UnknownName, match=r"no workflow is named") as caught:
                await engine.start(name, 1)
            assert wait_for_go.name in caught.value.nearest
            assert f"Did you mean {wait_for_go.name!r}" in str(caught.value)
            with pytest.raises(UnknownName) as caught:
                await engine.start("wait_for_og", 1)
            assert wait_for_go.name in caught.value.nearest
            assert engine.runs() == []

    asyncio.run(main())


def test_unknown_agent_blocks_the_run_and_names_the_nearest() -> None:
    async def calls_nobody(ctx: Context, text: str) -> str:
        return await ctx.call("clasifier", text)

    async def calls_classifier(ctx: Context, text: str) -> str:
        return await ctx.call("classifier", text)

    async def main() -> None:
        async with engine_on() as engine:
            handle = await engine.start(deploy(calls_nobody), "mit")
            detail = await blocked(handle)
            assert "no agent is named 'clasifier'. Did you mean 'classifier'" in detail
            deploy(calls_classifier)
            assert await (await engine.resume(handle.run_id)).result() == "MIT"

    asyncio.run(main())


def test_unknown_run_names_the_nearest() -> None:
    async def main() -> None:
        async with engine_on() as engine:
            handle = await engine.start(wait_for_go, 1)
            wrong = handle.run_id[:-1] + "!"
            for ask in (engine.find, engine.handle, engine.journal):
                with pytest.raises(UnknownName) as caught:
                    ask(wrong)
                assert caught.value.nearest == [handle.run_id]
            for send in (engine.signal(wrong, "go", 1), engine.cancel(wrong), engine.resume(wrong)):
                with pytest.raises(UnknownName, match=r"Did you mean"):
                    await send
            assert engine.find(handle.run_id[:10]).run_id == handle.run_id

    asyncio.run(main())


def test_wrong_input_gives_a_table_of_field_problem_and_given() -> None:
    wrong = {"lines": ["1", "two"], "address": {"street": "Long Street", "zip": "x" * 200}}

    async def main() -> None:
        async with engine_on() as engine:
            with pytest.raises(InputInvalid) as caught:
                await engine.start(checkout, wrong)
            rows = {field: (problem, given) for field, problem, given in caught.value.problems}
            assert set(rows) == {"name", "lines.1", "address.zip"}
            assert rows["name"] == ("Field required", "(nothing)")
            assert rows["lines.1"][1] == "'two'"
            assert len(rows["address.zip"][1]) <= 60
            lines = str(caught.value).splitlines()
            assert lines[0] == "the input of checkout does not fit its type:"
            assert lines[1].split() == ["field", "problem", "given"]
            columns = {
                line.index(problem) for line, (_, problem, _) in zip(lines[2:], caught.value.problems, strict=True)
            }
            assert columns == {lines[1].index("problem")}, "the table is not aligned"
            assert engine.runs() == []

    asyncio.run(main())


@pytest.mark.parametrize("given", [None, "one", 1.5, [1], {"number": 1}])
def test_input_of_another_type_is_refused(given: Any) -> None:
    async def main() -> None:
        async with engine_on() as engine:
            with pytest.raises(InputInvalid, match=r"the input of wait_for_go does not fit its type"):
                await engine.start(wait_for_go, given)
            assert engine.runs() == []

    asyncio.run(main())


def test_message_of_a_wrong_type_is_told_to_the_workflow() -> None:
    async def main() -> None:
        async with engine_on() as engine:
            handle = await engine.start(wait_for_go, 1)
            await handle.signal("go", "soon")
            with pytest.raises(RunFailed, match=r"InputInvalid") as caught:
                await handle.result()
            assert "'soon'" in str(caught.value)

    asyncio.run(main())


def test_business_id_twice_is_refused_joined_or_replaced(location: Any) -> None:
    async def main() -> None:
        async with engine_on(location) as engine:
            first = await engine.start(wait_for_go, 1, id="order-17")
            with pytest.raises(DuplicateRun) as caught:
                await engine.start(wait_for_go, 2, id="order-17")
            message = str(caught.value)
            assert message.startswith(
                f"the id 'order-17' belongs to run {first.run_id} (running). Nothing was started."
            )
            assert '"join"' in message
            assert '"replace"' in message
            joined = await engine.start(wait_for_go, 2, id="order-17", on_conflict="join")
            assert joined.run_id == first.run_id
            replaced = await engine.start(wait_for_go, 3, id="order-17", on_conflict="replace")
            assert engine.find("order-17").run_id == replaced.run_id != first.run_id
            await replaced.signal("go", 4)
            assert await replaced.result() == 7
            assert (await first.settled()).status == "cancelled"
            with pytest.raises(DuplicateRun, match=r"\(completed\)"):
                await engine.start(wait_for_go, 5, id="order-17")
            assert len(engine.runs()) == 2
            with pytest.raises(UsageError, match=r"on_conflict is reject, join or replace, not 'ignore'"):
                await engine.start(wait_for_go, 5, id="order-17", on_conflict="ignore")  # pyright: ignore  # the mistake

    asyncio.run(main())


def test_id_that_no_database_can_hold_is_refused_and_the_engine_goes_on(location: Any) -> None:
    async def main() -> None:
        async with engine_on(location) as engine:
            for odd in ("\ud800", "order-\udfff", "x" * 501):
                with pytest.raises(UsageError, match=r"is no business id: take text of at most 500 characters"):
                    await engine.start(wait_for_go, 1, id=odd)
                with pytest.raises(UnknownName):
                    engine.find(odd)
            assert engine.runs() == []
            assert await (await engine.start(checkout, ORDER)).result() == "Ada"

    asyncio.run(main())


ORDER = {"name": "Ada", "lines": [1], "address": {"street": "Long Street", "zip": 1}}


# --- values -----------------------------------------------------------------------------------------------------------


@dataclass
class Parcel:
    name: str
    content: Any


@workflow
async def anything(ctx: Context, value: Any) -> Any:
    return value


def unserialisable() -> Any:
    return {"parcels": [Parcel("one", 1), Parcel("two", {"lock": object()})]}


WHERE = "value['parcels'][1].content['lock'] is a object"


def test_value_that_cannot_be_written_is_refused_with_the_path_to_it(location: Any) -> None:
    async def main() -> None:
        async with engine_on(location) as engine:
            with pytest.raises(NotSerialisable) as caught:
                await engine.start(anything, unserialisable())
            assert str(caught.value).startswith(f"the input of anything cannot be journaled: {WHERE}.")
            assert engine.runs() == []
            handle = await engine.start(wait_for_go, 1)
            with pytest.raises(NotSerialisable, match=r"the message 'go' cannot be journaled: value\['parcels'\]"):
                await handle.signal("go", unserialisable())
            await handle.signal("go", 1)
            assert await handle.result() == 2

    asyncio.run(main())


def test_oversized_value_is_refused_with_its_size_and_the_bound(location: Any) -> None:
    async def main() -> None:
        async with engine_on(location) as engine:
            with pytest.raises(PayloadTooLarge) as caught:
                await engine.start(anything, TOO_LARGE)
            message = str(caught.value)
            assert message.startswith("the input of anything is 8,000,003 bytes; at most 8,000,000 are journaled.")
            assert "Store it in a file or an object store" in message
            assert engine.runs() == []
            handle = await engine.start(wait_for_go, 1)
            with pytest.raises(PayloadTooLarge, match=r"the message 'go' is 8,000,003 bytes"):
                await handle.signal("go", TOO_LARGE)
            await handle.signal("go", 1)
            assert await handle.result() == 2

    asyncio.run(main())


def test_largest_value_is_accepted(location: Any) -> None:
    async def main() -> None:
        async with engine_on(location, journal_bytes_max=3 * PAYLOAD_BYTES_MAX) as engine:
            value = "x" * (PAYLOAD_BYTES_MAX - 2)
            assert await (await engine.start(anything, value)).result() == value

    asyncio.run(main())


async def returns_object(ctx: Context, _: int) -> Any:
    return unserialisable()


async def returns_too_much(ctx: Context, _: int) -> str:
    return TOO_LARGE


async def gives_object_to_a_step(ctx: Context, _: int) -> Any:
    return await ctx.step(double, object())  # pyright: ignore  # the mistake


async def gives_object_to_a_child(ctx: Context, _: int) -> Any:
    return await ctx.run(anything, unserialisable())


async def asks_with_an_object(ctx: Context, _: int) -> Any:
    return await ctx.ask(HumanTask(title="?", details={"lock": object()}))


async def calls_what_is_no_step(ctx: Context, _: int) -> Any:
    return await ctx.step(asyncio.sleep, 1)


async def opens_a_file(ctx: Context, _: int) -> str:
    with open(__file__) as file:
        return file.read()


MISTAKES: list[tuple[Any, tuple[str, ...]]] = [
    (returns_object, ("the result of checkout cannot be journaled", WHERE)),
    (returns_too_much, ("the result of checkout is 8,000,003 bytes; at most 8,000,000",)),
    (gives_object_to_a_step, ("an argument of double cannot be journaled", "is a object")),
    (gives_object_to_a_child, ("the input of anything cannot be journaled", WHERE)),
    (asks_with_an_object, ("the task '?' cannot be journaled", "lock")),
    (calls_what_is_no_step, ("'sleep' is not a step. Decorate it with @step",)),
    (opens_a_file, ("open(", f"{__file__}:", "do this in a step")),
]


@pytest.mark.parametrize(("code", "said"), MISTAKES, ids=lambda each: getattr(each, "__name__", ""))
def test_mistake_in_workflow_code_blocks_the_run_until_it_is_mended(code: Any, said: tuple[str, ...]) -> None:
    async def begins_well(ctx: Context, number: int) -> Any:
        first = await ctx.step(double, number)
        return await code(ctx, first)

    async def mended(ctx: Context, number: int) -> Any:
        return await ctx.step(double, number)

    async def main() -> None:
        async with engine_on() as engine:
            handle = await engine.start(deploy(begins_well), 21)
            detail = await blocked(handle)
            for part in said:
                assert part in detail
            deploy(mended)
            assert await (await engine.resume(handle.run_id)).result() == 42

    asyncio.run(main())


def test_step_result_that_cannot_be_written_blocks_the_run_until_it_is_mended() -> None:
    async def gives_object() -> Any:
        return unserialisable()

    async def gives_data() -> Any:
        return "data"

    async def uses_it(ctx: Context, _: int) -> Any:
        return await ctx.step(define.find_step("shop:give"))

    async def main() -> None:
        async with engine_on() as engine:
            deploy_step(gives_object, "give")
            handle = await engine.start(deploy(uses_it), 1)
            detail = await blocked(handle)
            assert f"the result of give cannot be journaled: {WHERE}" in detail
            deploy_step(gives_data, "give")
            assert await (await engine.resume(handle.run_id)).result() == "data"

    asyncio.run(main())


def test_step_result_of_another_type_fails_the_step() -> None:
    async def lies(number: int) -> int:
        return "many"  # pyright: ignore  # the mistake

    async def uses_it(ctx: Context, number: int) -> str:
        try:
            await ctx.step(define.find_step("shop:lies"), number)
        except StepError as error:
            return str(error)
        return ""

    async def main() -> None:
        async with engine_on() as engine:
            deploy_step(lies, "lies")
            said = await (await engine.start(deploy(uses_it), 1)).result()
            assert "the result of lies does not fit its type" in said
            assert "'many'" in said

    asyncio.run(main())


# --- code that does not yield -----------------------------------------------------------------------------------------


async def counts_without_end(ctx: Context, _: int) -> None:
    for _ in itertools.count():
        pass  # here


async def never_awaits(ctx: Context, _: int) -> None:
    while True:
        pass  # here


async def sleeps_for_nothing(ctx: Context, _: int) -> None:
    while True:
        await asyncio.sleep(0)  # here


async def wakes_itself(ctx: Context, _: int) -> None:
    loop = asyncio.get_running_loop()

    def again() -> None:
        loop.call_soon(again)  # here

    again()
    await ctx.receive("never")


async def spawns_tasks(ctx: Context, _: int) -> None:
    async def nothing() -> None: ...

    while True:
        await asyncio.create_task(nothing())  # here


@pytest.mark.parametrize(
    "code",
    [counts_without_end, never_awaits, sleeps_for_nothing, wakes_itself, spawns_tasks],
    ids=lambda each: each.__name__,
)
def test_workflow_that_never_yields_is_blocked_with_its_line_and_the_others_go_on(location: Any, code: Any) -> None:
    async def begins_well(ctx: Context, number: int) -> Any:
        first = await ctx.step(double, number)
        return await code(ctx, first)

    async def mended(ctx: Context, number: int) -> Any:
        return await ctx.step(double, number)

    async def main() -> None:
        async with engine_on(location, stall_s=STALL_S, lease_s=2.0) as engine:
            waiting = await engine.start(wait_for_go, 1)
            handle = await engine.start(deploy(begins_well), 21)
            detail = await blocked(handle)
            assert detail.startswith("workflow code did not yield for ")
            assert "Await something in the loop, or move the computation into a step." in detail
            assert any(f"{__file__}:{line}" in detail for line in lines_of(code)), detail
            await waiting.signal("go", 1)
            assert await waiting.result() == 2
            deploy(mended)
            assert await (await engine.resume(handle.run_id)).result() == 42
            kinds = [type(event) for event in engine.journal(handle.run_id)]
            assert kinds == [events.RunStarted, events.StepCompleted, events.RunCompleted]

    asyncio.run(main())


def test_endless_callbacks_are_counted_also_where_time_is_no_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cadenza.durable.loop.CALLBACKS_MAX", 5_000)

    async def main() -> None:
        async with engine_on() as engine:
            detail = await blocked(await engine.start(deploy(sleeps_for_nothing), 1))
            assert detail.startswith("workflow code did not yield for 5,000 callbacks; it was at ")
            assert f"{__file__}:{lines_of(sleeps_for_nothing)[2]}." in detail

    asyncio.run(main())


def lines_of(code: Any) -> range:
    first = code.__code__.co_firstlineno
    return range(first, first + 10)


# --- a deploy that does not fit ---------------------------------------------------------------------------------------


async def ship(number: int) -> int:
    return number + 1


async def original(ctx: Context, number: int) -> int:
    first = await ctx.step(double, number)
    second = await ctx.step(define.find_step("shop:ship"), first)
    return second + await ctx.receive("go", int)


async def without_the_step(ctx: Context, number: int) -> int:
    first = await ctx.step(double, number)
    return first + await ctx.receive("go", int)


async def another_order(ctx: Context, number: int) -> int:
    first = await ctx.step(define.find_step("shop:ship"), number)
    second = await ctx.step(double, first)
    return second + await ctx.receive("go", int)


async def another_argument(ctx: Context, number: int) -> int:
    first = await ctx.step(double, number + 1)
    second = await ctx.step(define.find_step("shop:ship"), first)
    return second + await ctx.receive("go", int)


async def ends_early(ctx: Context, number: int) -> int:
    return number


async def asks_instead(ctx: Context, number: int) -> int:
    answer = await ctx.ask(HumanTask(title="?"))
    return int(bool(answer.approved))


DEPLOYS = [without_the_step, another_order, another_argument, ends_early, asks_instead]


@pytest.mark.parametrize("code", DEPLOYS, ids=lambda each: each.__name__)
def test_changed_workflow_is_blocked_with_expected_and_found_until_it_is_mended(location: Any, code: Any) -> None:
    async def main() -> None:
        async with engine_on(location, linger_s=0.0) as engine:
            deploy_step(ship, "ship")
            handle = await engine.start(deploy(original), 10)
            assert (await handle.settled()).status == "waiting"
            before = engine.journal(handle.run_id)
            deploy(code)
            await handle.signal("go", 1)
            detail = await blocked(handle)
            lines = detail.splitlines()
            assert lines[0] == "the journal and the code disagree."
            assert lines[1].startswith("  expected: ")
            assert lines[2].startswith("  found:    ")
            assert lines[1].partition(":")[2].strip() != lines[2].partition(":")[2].strip()
            assert "ctx.patched" in detail
            assert engine.journal(handle.run_id) == before, "a run that does not fit was written to"
            deploy(original)
            assert await (await engine.resume(handle.run_id)).result() == 22

    asyncio.run(main())


def test_step_function_that_was_deleted_blocks_the_run_until_it_is_back(location: Any) -> None:
    async def main() -> None:
        async with engine_on(location, linger_s=0.0) as engine:
            deploy_step(ship, "ship")
            handle = await engine.start(deploy(original), 10)
            assert (await handle.settled()).status == "waiting"
            del define.steps["shop:ship"]
            deploy_step(ship, "shipp")
            await handle.signal("go", 1)
            detail = await blocked(handle)
            assert "no step is named 'shop:ship'. Did you mean 'shop:shipp'" in detail
            assert "Was it deleted or renamed while a run still needs it?" in detail
            deploy_step(ship, "ship")
            assert await (await engine.resume(handle.run_id)).result() == 22

    asyncio.run(main())


def test_undo_function_that_was_deleted_blocks_the_run_until_it_is_back(location: Any) -> None:
    """The undo stack of an earlier generation knows its functions by name only."""
    undone: list[int] = []

    async def refund(amount: int) -> None:
        undone.append(amount)

    async def twice(ctx: Context, generation: int) -> None:
        if generation == 0:
            ctx.compensate(define.find_step("shop:refund"), 17)
            ctx.continue_as_new(1)
        await ctx.receive("go")
        raise ValueError("no")

    async def main() -> None:
        async with engine_on(location, linger_s=0.0) as engine:
            deploy_step(refund, "refund")
            handle = await engine.start(deploy(twice), 0)
            assert (await handle.settled()).status == "waiting"
            del define.steps["shop:refund"]
            await handle.signal("go")
            detail = await blocked(handle)
            assert "no step is named 'shop:refund'" in detail
            assert undone == []
            deploy_step(refund, "refund")
            with pytest.raises(RunFailed, match=r"ValueError: no"):
                await (await engine.resume(handle.run_id)).result()
            assert undone == [17]

    asyncio.run(main())


def test_workflow_that_was_deleted_blocks_the_run_until_it_is_back(location: Any) -> None:
    async def main() -> None:
        async with engine_on(location, linger_s=0.0) as engine:
            deploy_step(ship, "ship")
            handle = await engine.start(deploy(original), 10)
            assert (await handle.settled()).status == "waiting"
            found = define.workflows.pop("shop:checkout")
            await handle.signal("go", 1)
            detail = await blocked(handle)
            assert "no workflow is named 'shop:checkout'" in detail
            assert "Import the module that defines it." in detail
            define.workflows["shop:checkout"] = found
            assert await (await engine.resume(handle.run_id)).result() == 22

    asyncio.run(main())


# --- answers ----------------------------------------------------------------------------------------------------------


@workflow
async def ask_to_choose(ctx: Context, _: int) -> str:
    answer = await ctx.ask(HumanTask(title="Which?", kind="choose", options=("red", "blue")))
    return answer.choice


def test_answer_that_does_not_fit_is_refused_and_the_question_stays_open(location: Any) -> None:
    async def main() -> None:
        async with engine_on(location) as engine:
            handle = await engine.start(ask_to_choose, 1)
            await handle.settled()
            ((row, _),) = engine.tasks()
            with pytest.raises(InputInvalid, match=r"green"):
                await engine.answer(handle.run_id, row.path, Answer(choice="green"))
            with pytest.raises(UnknownName, match=r"no open task is named '@ask#7'"):
                await engine.answer(handle.run_id, "@ask#7", Answer(choice="red"))
            assert len(engine.tasks()) == 1
            await engine.answer(handle.run_id, row.path, Answer(choice="red"))
            assert await handle.result() == "red"
            with pytest.raises(UnknownName):
                await engine.answer(handle.run_id, row.path, Answer(choice="blue"))

    asyncio.run(main())
