"""The testing kit: virtual time, scripts, faults and processes that die."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from cadenza import Answer, Context, HumanAgent, HumanTask, Retry, RunFailed, StepError, agent, step, testing, workflow
from cadenza.errors import UnknownName, UsageError
from cadenza.testing import Environment


@step(retry=Retry(attempts=3, delay_s=3600, delay_s_max=7200, jitter=0), timeout_s=30)
async def flaky(n: int) -> int:
    if step.attempt() < 3:
        raise ConnectionError("try later")
    return 2 * n


@step
def threaded(n: int) -> int:
    time.sleep(0.005)
    return n + 1


@step(effect="irreversible")
async def pay(order: str) -> str:
    return f"paid {order}"


@agent
async def kit_classifier(text: str) -> str:
    raise RuntimeError(f"no test calls me: {text}")


@workflow
async def slow(ctx: Context, n: int) -> int:
    doubled = await ctx.step(flaky, n)
    await asyncio.sleep(30 * 86_400)
    return await ctx.step(threaded, doubled)


@workflow
async def refunds(ctx: Context, text: str) -> str:
    kind = await ctx.call("kit_classifier", text)
    if kind != "refund":
        return kind
    try:
        async with asyncio.timeout(7 * 86_400):
            answer = await ctx.ask(HumanTask(title="Refund it?"))
    except TimeoutError:
        return "nobody answered"
    return await ctx.step(pay, text) if answer.approved else "refused"


def lived(work: Callable[[Environment], Awaitable[None]], **options: object) -> None:
    """Run `work` in an environment of its own."""

    async def main() -> None:
        async with testing.environment(**options) as env:  # type: ignore[arg-type]
            await work(env)

    asyncio.run(main())


def test_thirty_days_and_the_delays_of_retries_take_no_time() -> None:
    async def work(env: Environment) -> None:
        began, before = env.now, time.monotonic()
        assert await env.run(slow, 4) == 9
        assert timedelta(days=30, hours=3) <= env.now - began < timedelta(days=30, hours=3, seconds=1)
        assert time.monotonic() - before < 20  # and not 30 days
        assert [call.attempt for call in env.calls_of(flaky)] == [1, 2, 3]

    lived(work)
    assert testing.run_test(slow, 1) == 3


def test_a_scripted_agent_answers_in_turn_and_its_calls_are_counted() -> None:
    async def work(env: Environment) -> None:
        script = env.script("kit_classifier", ["complaint", "other"])
        assert await env.run(refunds, "a") == "complaint"
        assert await env.run(refunds, "b") == "other"
        assert [call.args for call in script.calls] == [("a",), ("b",)]
        assert script.left == 0

    lived(work)


def test_a_script_may_be_a_function_and_may_raise() -> None:
    assert testing.run_test(refunds, "abc", script={kit_classifier: lambda text: text.upper()}) == "ABC"
    with pytest.raises(RunFailed) as failed:
        testing.run_test(refunds, "abc", script={"kit_classifier": [ValueError("no model")]})
    assert "no model" in str(failed.value)


def test_a_script_that_has_run_out_fails_the_test_even_where_the_workflow_goes_on() -> None:
    @workflow
    async def forgiving(ctx: Context) -> str:
        try:
            return await ctx.call("kit_classifier", "x")
        except StepError:
            return "never mind"

    with pytest.raises(AssertionError, match=r"script of 'kit_classifier' has run out: call 1 \(kit_classifier#1\)"):
        testing.run_test(forgiving, script={"kit_classifier": []})


def test_a_script_for_nobody_is_refused() -> None:
    with pytest.raises(UnknownName, match="clasifier"):
        testing.run_test(refunds, "x", script={"clasifier": []})


def test_a_person_is_not_scripted_but_answered() -> None:
    boss = HumanAgent("boss_of_tests", output=bool)

    @workflow
    async def asks_boss(ctx: Context) -> bool:
        return await ctx.call(boss, "a rise")

    async def work(env: Environment) -> None:
        with pytest.raises(UsageError, match=r"'boss_of_tests' has no step.*env.answer"):
            env.script("boss_of_tests", [True])
        run = await env.start(asks_boss)
        await env.answer(run, Answer(approved=True))
        assert await run.result() is True

    lived(work)


def test_a_test_answers_as_time_goes_by_and_deadlines_pass_when_nobody_does() -> None:
    async def work(env: Environment) -> None:
        env.script("kit_classifier", ["refund", "refund"])
        run = await env.start(refunds, "r-1")
        assert (await env.asked(run)).title == "Refund it?"
        began = env.now
        await env.advance(timedelta(days=6))
        assert env.now - began == timedelta(days=6)
        assert (await env.settled(run)).status == "waiting"
        await env.answer(run, Answer(approved=True))
        assert await run.result() == "paid r-1"
        assert await env.run(refunds, "r-2") == "nobody answered"
        assert env.now - began == timedelta(days=13)

    lived(work)


def test_a_run_that_waits_for_what_never_comes_is_named() -> None:
    @workflow
    async def asks(ctx: Context) -> bool:
        return bool(await ctx.ask(HumanTask(title="Ship it?")))

    @workflow
    async def listens(ctx: Context) -> str:
        return await ctx.receive("paid", str)

    with pytest.raises(AssertionError, match=r"waits for a person: 'Ship it\?' at @ask#1.*env.answer"):
        testing.run_test(asks)
    with pytest.raises(AssertionError, match=r"waits for @receive:paid#1"):
        testing.run_test(listens)


def test_code_that_cannot_be_replayed_fails_the_test() -> None:
    flips = iter(range(100))

    @workflow
    async def unruly(ctx: Context) -> int:
        return await ctx.step(threaded, next(flips))

    with pytest.raises(AssertionError, match="not deterministic"):
        testing.run_test(unruly)


@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_a_process_that_dies_is_followed_by_another_and_nothing_finished_runs_again(store: str, tmp_path: Path) -> None:
    async def work(env: Environment) -> None:
        env.script("kit_classifier", ["refund"])
        run = await env.start(refunds, "r-1")
        await env.asked(run)
        await env.crash()
        await env.advance(timedelta(days=1))
        await env.restart()
        await env.answer(run, Answer(approved=True))
        assert await run.result() == "paid r-1"
        assert [call.label for call in env.calls] == ["kit_classifier", "pay"]
        assert env.lives == 3

    lived(work, store=":memory:" if store == "memory" else tmp_path / "runs.db")


@pytest.mark.parametrize("when", ["before", "after"])
def test_faults_strike_the_nth_attempt(when: testing.When) -> None:
    @step(retry=Retry(attempts=5, delay_s=1), timeout_s=10)
    async def fetch(n: int) -> int:
        return n

    @workflow
    async def fetches(ctx: Context) -> list[int]:
        return [await ctx.step(fetch, n) for n in (1, 2)]

    async def work(env: Environment) -> None:
        env.fail(fetch, nth=1, error=ConnectionError("gone"), when=when)
        env.time_out(fetch, nth=2, when=when)
        env.die(fetch, nth=3, when=when)
        run = await env.start(fetches)
        assert await run.result() == [1, 2]
        assert len(env.calls) == 5
        assert env.lives == 2
        names = [type(event).__name__ for event in env.journal(run)]
        assert names.count("AttemptFailed") == 2
        assert [call.done for call in env.calls] == [when == "after"] * 3 + [True] * 2

    lived(work)


def test_an_environment_needs_a_loop_of_its_own() -> None:
    async def main() -> None:
        with pytest.raises(UsageError, match="use async with environment"):
            testing.run_test(slow, 1)

    asyncio.run(main())


def test_real_work_is_waited_for() -> None:
    """Threads and sockets take real time, and the clock does not run away from them."""

    @step(timeout_s=5)
    async def talks() -> str:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await asyncio.to_thread(time.sleep, 0.02)
            writer.write(await reader.readline())
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            host, port = server.sockets[0].getsockname()
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(b"hello\n")
            line = await reader.readline()
            writer.close()
            await writer.wait_closed()
        return line.decode().strip()

    @workflow
    async def chat(ctx: Context) -> str:
        words = await ctx.step(talks)
        await asyncio.sleep(86_400)
        return words

    assert testing.run_test(chat) == "hello"


def test_the_loop_has_its_own_time_back_afterwards() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        before = loop.time()
        async with testing.environment() as env:
            await env.advance(timedelta(days=365))
            assert loop.time() - before > 364 * 86_400
        assert loop.time() - before < 3_600

    asyncio.run(main())
