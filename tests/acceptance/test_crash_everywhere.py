"""`crash_everywhere` over workflows of all kinds; and that it finds what it is there to find."""

import asyncio
import itertools

import pytest

from cadenza import Agent, Answer, Context, HumanTask, Retry, agent, map_reduce, step, testing, tool, workflow
from cadenza.testing import Environment, call
from cadenza.testing.crash import Life


@step(retry=Retry(attempts=3, delay_s=60))
async def look_up(n: int) -> int:
    if step.attempt() == 1 and n == 2:
        raise ConnectionError("once")
    return n * 10


@step(effect="read")
async def peek(n: int) -> int:
    return n + 1


@step(effect="irreversible")
async def pay(amount: int) -> str:
    return f"paid {amount}"


async def unreserve(seat: str) -> None:
    pass


@step(effect="compensatable", undo=unreserve)
async def reserve(n: int) -> str:
    return f"seat {n}"


@agent
async def judge(n: int) -> str:
    raise RuntimeError("scripted in tests")


@workflow
async def part(ctx: Context, n: int) -> int:
    return await ctx.step(look_up, n)


@workflow
async def everything(ctx: Context, n: int) -> list[object]:
    found = await asyncio.gather(*(ctx.step(look_up, each) for each in range(n)))
    first = await ctx.step(peek, found[-1])
    paid = await ctx.step(pay, first)
    verdict = await ctx.call("judge", n)
    answer = await ctx.ask(HumanTask(title="Go on?"))
    await asyncio.sleep(30 * 86_400)
    word = await ctx.receive("word", str)
    child = await ctx.run(part, 2)
    return [found, first, paid, verdict, answer.approved, word, child]


@workflow
async def undone(ctx: Context) -> None:
    await ctx.step(reserve, 1)
    await ctx.step(reserve, 2)
    raise ValueError("no money")


@workflow
async def rounds(ctx: Context, n: int) -> int:
    await ctx.step(look_up, n)
    if n < 3:
        ctx.continue_as_new(n + 1)
    return n


def yes(task: HumanTask) -> Answer:
    return Answer(approved=True)


def test_a_workflow_with_everything_survives_every_crash() -> None:
    report = testing.crash_everywhere(
        everything, 3, script={"judge": ["good"]}, answer=yes, messages=[("word", "hello")]
    )
    assert report.crashes >= report.events
    assert report.repeated > 0
    assert report.in_doubt > 0


@pytest.mark.parametrize(("name", "input"), [("undone", None), ("rounds", 1)])
def test_compensation_and_generations_survive_every_crash(name: str, input: int | None) -> None:
    report = testing.crash_everywhere({"undone": undone, "rounds": rounds}[name], input)
    assert report.crashes >= 8
    assert str(report).startswith(f"{report.events} events, {report.crashes} crashes")


@tool(effect="irreversible")
async def publish(text: str) -> str:
    return f"published {text}"


@tool
async def search(text: str) -> str:
    return f"all about {text}"


author = Agent("author_everywhere", model="openai:gpt-5-nano", tools=[search, publish])


@workflow
async def writes(ctx: Context, text: str) -> str:
    return await ctx.call(author, text)


def test_an_llm_agent_survives_every_crash_and_publishes_once() -> None:
    def setup(env: Environment) -> None:
        env.model(author, [[call("search", text="a"), call("search", text="b")], call("publish", text="ab"), "done"])

    report = testing.crash_everywhere(writes, "write", setup=setup)
    assert report.in_doubt > 0
    assert report.crashes > 10


def test_map_reduce_survives_every_crash() -> None:
    @workflow
    async def maps(ctx: Context, n: int) -> list[int]:
        return await map_reduce(ctx, range(n), look_up, limit=2)

    assert testing.crash_everywhere(maps, 5).crashes > 10
    assert testing.crash_everywhere(maps, 5, crashes_max=3).crashes <= 3


# --- it finds what it is there to find --------------------------------------------------------------------------------


def test_a_result_that_depends_on_the_process_is_found() -> None:
    lives = itertools.count()

    @step
    async def fickle() -> int:
        return next(lives)

    @workflow
    async def depends(ctx: Context) -> int:
        return await ctx.step(fickle)

    with pytest.raises(
        AssertionError, match=r"crash before .*: the run completed with \d+; without a crash it completed with 0"
    ):
        testing.crash_everywhere(depends)


def test_workflow_code_that_is_not_deterministic_is_found() -> None:
    draws = itertools.count()

    @workflow
    async def unruly(ctx: Context) -> int:
        total = 0
        for _ in range(2):
            total += await ctx.step(peek, next(draws) % 7)
        return 0

    with pytest.raises(AssertionError, match="not deterministic"):
        testing.crash_everywhere(unruly)


def test_each_difference_is_named() -> None:
    """The comparison itself: an effect too many, too few, an irreversible one twice, a finished one again."""
    from cadenza.testing.crash import Crash, _compare

    def made(key: str, effect: str = "idempotent") -> testing.Call:
        path = key.rpartition(":")[2]
        return testing.Call("r", path, "m:f", path.partition("#")[0], key, 1, effect, done=True)

    crash = Crash(3, "kept", "StepCompleted a#1")
    quiet = Life(ending="completed with 1", calls=[made("r:0:a#1"), made("r:0:b#1", "irreversible")])
    for life, found in (
        (Life(ending="completed with 1", calls=[made("r:0:a#1")]), "b at b#1 did not happen"),
        (Life(ending="completed with 1", calls=[*quiet.calls, made("r:0:c#1")]), "c at c#1 happened"),
        (
            Life(ending="completed with 1", calls=[*quiet.calls, quiet.calls[1]]),
            "irreversible b at b#1 happened 2 times",
        ),
        (
            Life(ending="completed with 1", calls=[*quiet.calls, quiet.calls[0]], calls_before=2, on_disk={"r:0:a#1"}),
            "a at a#1 had ended, and was called again",
        ),
        (Life(ending="blocked"), "the run blocked; without a crash it completed with 1"),
    ):
        with pytest.raises(AssertionError, match=f"crash after StepCompleted a#1 was written: .*{found}"):
            _compare(quiet, life, crash)
