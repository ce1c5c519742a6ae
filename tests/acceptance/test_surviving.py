"""Calls under a policy: limits around each attempt, in a run, on virtual time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from cadenza import Agent, Context, HttpAgent, HumanAgent, Retry, StepError, agent, testing, workflow
from cadenza.durable.events import AttemptFailed
from cadenza.errors import CircuitOpen, DefinitionError, Overloaded
from cadenza.routing.breaker import BreakerOptions
from cadenza.routing.policy import Policy
from cadenza.testing import Environment

ONCE = Retry(attempts=2, delay_s=1, jitter=0)


def lived(work: Callable[[Environment], Awaitable[None]]) -> None:
    async def main() -> None:
        async with testing.environment() as env:
            await work(env)

    asyncio.run(main())


class Server:
    """What the agents of these tests stand for."""

    def __init__(self) -> None:
        self.asked = self.at_once = self.most = 0
        self.down = False
        self.takes_s = 1.0

    async def ask(self) -> str:
        self.asked += 1
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            await asyncio.sleep(self.takes_s)
        finally:
            self.at_once -= 1
        if self.down:
            raise ConnectionError("the server is down")
        return "done"


servers: dict[str, Server] = {}


@agent(policy=Policy(breaker=BreakerOptions(calls_min=3, open_s=10)))
async def surviving_broken(name: str) -> str:
    return await servers[name].ask()


@agent(policy=Policy(retry=Retry(attempts=5, delay_s=1, jitter=0)))
async def surviving_stormy(name: str) -> str:
    return await servers[name].ask()


@agent(policy=Policy(concurrency=3, queue_max=4))
async def surviving_narrow(name: str) -> str:
    return await servers[name].ask()


@agent(policy=Policy(attempt_timeout_s=5, retry=ONCE), effect="read")
async def surviving_slow(name: str) -> str:
    return await servers[name].ask()


@agent(effect="irreversible", policy=Policy(breaker=BreakerOptions(calls_min=1)), raises=(ConnectionError,))
async def surviving_payment(name: str) -> str:
    return await servers[name].ask()


@agent
async def surviving_plain(name: str) -> str:
    return await servers[name].ask()


@workflow
async def surviving_many(ctx: Context, given: tuple[str, str, int, float]) -> list[str]:
    """So many calls of an agent, with seconds between two."""
    name, server, count, pause_s = given
    seen: list[str] = []

    async def one() -> None:
        try:
            seen.append(await ctx.call(name, server))
        except Exception as error:
            seen.append(type(error).__name__)

    tasks: list[asyncio.Task[None]] = []
    for _ in range(count):
        tasks.append(asyncio.ensure_future(one()))
        if pause_s:
            await asyncio.sleep(pause_s)
    await asyncio.gather(*tasks)
    return seen


def test_an_open_breaker_leaves_the_agent_alone_and_a_probe_closes_it() -> None:
    async def work(env: Environment) -> None:
        server = servers["broken"] = Server()
        server.down = True
        seen = await env.run(surviving_many, ("surviving_broken", "broken", 10, 2.0))
        assert seen[:3] == ["StepError"] * 3
        assert server.asked == 4  # the fourth was the probe, ten seconds later
        assert seen.count("CircuitOpen") == 6
        server.down = False
        seen = await env.run(surviving_many, ("surviving_broken", "broken", 15, 2.0))
        assert "CircuitOpen" in seen
        assert seen[-3:] == ["done"] * 3

    lived(work)


def test_a_retry_storm_is_bounded() -> None:
    async def work(env: Environment) -> None:
        server = servers["storm"] = Server()
        server.down = True
        calls = 100
        seen = await env.run(surviving_many, ("surviving_stormy", "storm", calls, 0.5))
        assert seen == ["StepError"] * calls
        assert server.asked <= calls * 1.2 + 10

    lived(work)


def test_an_error_says_that_the_retry_budget_is_spent_and_why_it_was_needed() -> None:
    async def work(env: Environment) -> None:
        servers["storm"] = Server()
        servers["storm"].down = True
        await env.run(surviving_many, ("surviving_stormy", "storm", 100, 0.0))

        @workflow
        async def surviving_one_more(ctx: Context) -> str:
            try:
                return await ctx.call("surviving_stormy", "storm")
            except StepError as error:
                cause = error.failure.cause
                return f"{error} (from {cause and cause.short_type})"

        said = await env.run(surviving_one_more)
        assert said.endswith("(from ConnectionError)")
        assert "retries are at their bound of 20% of its calls. ConnectionError: the server is down" in said

    lived(work)


def test_a_bulkhead_bounds_calls_at_once_and_sheds_what_does_not_fit_the_queue() -> None:
    async def work(env: Environment) -> None:
        server = servers["narrow"] = Server()
        seen = await env.run(surviving_many, ("surviving_narrow", "narrow", 10, 0.0))
        assert sorted(seen) == ["Overloaded"] * 3 + ["done"] * 7
        assert server.most == 3

    lived(work)


def test_the_time_limit_of_an_attempt_comes_from_the_policy() -> None:
    async def work(env: Environment) -> None:
        server = servers["slow"] = Server()
        server.takes_s = 60
        run = await env.start(surviving_many, ("surviving_slow", "slow", 1, 0.0))
        assert await run.result() == ["StepError"]
        assert server.asked == 2
        failed = [each for each in env.journal(run) if isinstance(each, AttemptFailed)]
        assert [each.failure.short_type for each in failed] == ["StepTimeout"]

    lived(work)


def test_an_irreversible_call_that_never_began_is_not_in_doubt() -> None:
    async def work(env: Environment) -> None:
        server = servers["payment"] = Server()
        server.down = True
        await env.run(surviving_many, ("surviving_payment", "payment", 1, 0.0))

        @workflow
        async def surviving_pay(ctx: Context) -> str:
            try:
                return await ctx.call("surviving_payment", "payment")
            except CircuitOpen as error:
                return f"never began, in {error.retry_after_s:.0f} s"

        server.down = False
        # a declared error is an answer: the breaker stays closed
        assert await env.run(surviving_pay) == "done"
        server.takes_s = 0
        breaker = Policy(breaker=BreakerOptions(calls_min=1)).on(surviving_payment).guard().breaker
        assert breaker is not None
        while not breaker.ended(False, env.time.now()):
            pass
        assert await env.run(surviving_pay) == "never began, in 5 s"
        assert not env.engine.tasks()

    lived(work)


def test_a_policy_for_one_call() -> None:
    async def work(env: Environment) -> None:
        server = servers["plain"] = Server()
        once = Policy(concurrency=1, queue_max=0)

        @workflow
        async def surviving_two(ctx: Context) -> list[str]:
            calls = [ctx.call(once.on("surviving_plain"), "plain") for _ in range(2)]
            seen = await asyncio.gather(*calls, return_exceptions=True)
            return [each if isinstance(each, str) else str(each) for each in seen]

        done, shed = await env.run(surviving_two)
        assert done == "done"
        assert shed == "surviving_plain@1/ was not asked: 1 of 1 calls are under way, and none may wait."
        assert server.asked == 1

    lived(work)


def test_a_run_under_a_policy_is_replayed_without_asking_anybody() -> None:
    async def work(env: Environment) -> None:
        server = servers["plain"] = Server()

        @workflow
        async def surviving_parked(ctx: Context) -> str:
            said = await ctx.call(Policy(concurrency=1).on("surviving_plain"), "plain")
            await asyncio.sleep(86_400)
            return said

        run = await env.start(surviving_parked)
        await env.settled(run)
        await env.restart()
        assert await run.result() == "done"
        assert server.asked == 1

    lived(work)


def test_a_model_agent_has_the_limits_of_its_policy() -> None:
    thinker = Agent("surviving_thinker", model="test", policy=Policy(concurrency=1, queue_max=0))

    async def work(env: Environment) -> None:
        @workflow
        async def surviving_thoughts(ctx: Context) -> list[str]:
            calls = [ctx.call(thinker, "hello") for _ in range(2)]
            return [type(each).__name__ for each in await asyncio.gather(*calls, return_exceptions=True)]

        env.model(thinker, ["hi", "hi"])
        assert await env.run(surviving_thoughts) == ["str", Overloaded.__name__]

    lived(work)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: Policy(attempt_timeout_s=0), "attempt_timeout_s is a positive number"),
        (lambda: Policy(retry_budget=20), "a share of calls, 0 to 1, not 20"),
        (lambda: Policy(concurrency=0), "at least 1"),
        (lambda: agent(timeout_s=3, policy=Policy(attempt_timeout_s=4))(_one), "timeout_s is given twice"),
        (
            lambda: HttpAgent("surviving_twice", url="http://x/", retry=ONCE, policy=Policy(retry=ONCE)),
            "surviving_twice: retry is given twice, in the definition and in its policy; drop one",
        ),
        (lambda: Policy(breaker=BreakerOptions()).on(HumanAgent("surviving_ann")), "breaker means nothing"),
        (lambda: agent(effect="irreversible", policy=Policy(retry=ONCE))(_one), "never retries an irreversible step"),
    ],
)
def test_what_contradicts_itself_or_the_agent_is_refused_where_it_is_written(
    made: Callable[[], Any], said: str
) -> None:
    with pytest.raises(DefinitionError, match=said):
        made()


def _one(name: str) -> str:
    return name
