"""Killable processes, hedged requests, and rates that all workers of a file share."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from cadenza import Context, Engine, EngineOptions, Retry, StepError, agent, testing, workflow
from cadenza.durable.events import MemoSaved
from cadenza.errors import DefinitionError, Overloaded
from cadenza.routing.policy import Policy
from cadenza.testing import Environment
from tests.acceptance.killable_agents import Job, killable_worker


def lived(work: Callable[[Environment], Awaitable[None]]) -> None:
    async def main() -> None:
        async with testing.environment() as env:
            await work(env)

    asyncio.run(main())


# --- processes that can be killed -------------------------------------------------------------------------------------


@workflow
async def kill_some(ctx: Context, jobs: list[Job]) -> list[Any]:
    seen: list[Any] = []
    for job in jobs:
        try:
            seen.append(await ctx.call(killable_worker, job))
        except StepError as error:
            seen.append(str(error.failure))
    return seen


def killed(jobs: list[Job]) -> list[Any]:
    async def main() -> list[Any]:
        async with Engine.open(":memory:", EngineOptions(verify_replay=True)) as engine:
            return await (await engine.start(kill_some, jobs)).result()

    return asyncio.run(main())


def test_a_sync_function_that_hangs_is_killed_and_tried_again(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    (done,) = killed([Job(str(mark), takes_s=60)])
    assert done["attempt"] == 2
    assert done["pid"] != os.getpid()
    lines = mark.read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["began", "began", "ended"]
    with pytest.raises(ProcessLookupError):
        os.kill(int(lines[0].split()[1]), 0)


def test_a_process_is_kept_for_the_next_call_and_errors_come_as_themselves(tmp_path: Path) -> None:
    mark = str(tmp_path / "mark")
    first, value, odd, last = killed([Job(mark), Job(mark, fails="value"), Job(mark, fails="odd"), Job(mark)])
    assert first["pid"] == last["pid"]
    assert value == "ValueError: no such thing"
    assert odd == "FailedElsewhere: OddError: odd"


# --- hedging ----------------------------------------------------------------------------------------------------------

delays_s: list[float] = []
ended: list[str] = []


@agent(effect="read", policy=Policy(hedge_after=2.0))
async def hedge_reader(name: str) -> str:
    delay_s = delays_s.pop(0)
    try:
        await asyncio.sleep(delay_s)
    except asyncio.CancelledError:
        ended.append(f"cancelled {delay_s:g}")
        raise
    ended.append(f"answered {delay_s:g}")
    return f"after {delay_s:g}"


@agent(effect="read", policy=Policy(hedge_after="p95"))
async def hedge_by_percentile(name: str) -> str:
    await asyncio.sleep(delays_s.pop(0))
    return "read"


@workflow
async def hedge_calls(ctx: Context, given: tuple[str, int]) -> list[str]:
    name, count = given
    return [await ctx.call(name, "x") for _ in range(count)]


def test_the_first_answer_wins_and_the_other_request_is_cancelled_and_it_is_recorded() -> None:
    async def work(env: Environment) -> None:
        delays_s[:] = [60, 1]
        ended.clear()
        run = await env.start(hedge_calls, ("hedge_reader", 1))
        assert await run.result() == ["after 1"]
        assert ended == ["answered 1", "cancelled 60"]
        (memo,) = [each for each in env.journal(run) if isinstance(each, MemoSaved)]
        assert json.loads(memo.value) == {"hedged_after_s": 2.0, "won": "second"}

    lived(work)


def test_a_request_that_is_quick_enough_has_no_second() -> None:
    async def work(env: Environment) -> None:
        delays_s[:] = [1.9]
        run = await env.start(hedge_calls, ("hedge_reader", 1))
        assert await run.result() == ["after 1.9"]
        assert not [each for each in env.journal(run) if isinstance(each, MemoSaved)]

    lived(work)


def test_hedges_begin_after_the_95th_percentile_and_stay_within_the_retry_budget() -> None:
    async def work(env: Environment) -> None:
        delays_s[:] = [1.0] * 20
        await env.run(hedge_calls, ("hedge_by_percentile", 20))
        guard = Policy(hedge_after="p95").on(hedge_by_percentile).guard()
        assert guard.hedges == 0
        delays_s[:] = [30.0] * 400  # everything is slow now
        await env.run(hedge_calls, ("hedge_by_percentile", 100))
        assert 10 <= guard.calls - 120 <= 10 + 0.2 * 120

    lived(work)


# --- rates ------------------------------------------------------------------------------------------------------------


@agent(policy=Policy(requests_per_minute=60, queue_s=20))
async def rate_agent(name: str) -> str:
    return name


@workflow
async def rate_calls(ctx: Context, count: int) -> list[Any]:
    began = ctx.now()

    async def one() -> float | str:
        try:
            await ctx.call(rate_agent, "x")
        except Overloaded as error:
            return str(error)
        return round((ctx.now() - began).total_seconds())

    return list(await asyncio.gather(*(one() for _ in range(count))))


def test_requests_a_minute_are_spread_and_what_would_wait_too_long_is_shed() -> None:
    async def work(env: Environment) -> None:
        seen = await env.run(rate_calls, 40)
        waited = sorted(each for each in seen if not isinstance(each, str))
        assert waited == [0] * 10 + list(range(1, 21))
        shed = [each for each in seen if isinstance(each, str)]
        assert len(shed) == 10
        assert "60 requests a minute are used up for more than 20 s" in shed[0]

    lived(work)


def test_workers_of_one_file_share_a_rate(tmp_path: Path) -> None:
    @agent(name="rate_shared", policy=Policy(requests_per_minute=6, queue_s=0.001))
    async def shared(name: str) -> str:
        return name

    @workflow
    async def rate_once(ctx: Context) -> str:
        try:
            return await ctx.call("rate_shared", "got it")
        except Overloaded:
            return "shed"

    async def main() -> list[str]:
        seen: list[str] = []
        for _ in range(3):  # each engine is a worker of its own
            async with Engine.open(tmp_path / "rates.db") as engine:
                seen.append(await (await engine.start(rate_once)).result())
        return seen

    assert asyncio.run(main()) == ["got it", "shed", "shed"]


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: agent(name="rq_1", policy=Policy(hedge_after=1))(_sync), "for effect='read' only"),
        (lambda: agent(name="rq_2", effect="read", policy=Policy(hedge_after=1))(_sync), "cannot cancel a thread"),
        (lambda: agent(name="rq_3", policy=Policy(tokens_per_minute=9))(_sync), "is for agents with a model"),
        (lambda: agent(name="rq_4", policy=Policy(killable=True))(_async), "killable=True is for sync functions"),
        (lambda: Policy(hedge_after="p50"), "hedge_after is over 0, not 'p50'"),  # type: ignore[arg-type]
        (lambda: Policy(requests_per_minute=0), "requests_per_minute is over 0"),
    ],
)
def test_what_cannot_be_is_refused_where_it_is_written(made: Callable[[], Any], said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        made()


def _sync(name: str) -> str:
    return name


async def _async(name: str) -> str:
    return name


def test_a_killable_function_must_be_found_by_another_process() -> None:
    def inner(name: str) -> str:
        return name

    with pytest.raises(DefinitionError, match="a function of a module"):
        agent(name="rq_5", policy=Policy(killable=True, retry=Retry()))(inner)
