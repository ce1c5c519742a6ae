"""The pure parts of surviving: breaker, retry budget, the limit that follows latency, and slots."""

import asyncio

import pytest

from cadenza.errors import DefinitionError, Overloaded
from cadenza.routing.breaker import Breaker, BreakerOptions
from cadenza.routing.limiter import Gradient, Slots
from cadenza.routing.retry_budget import RetryBudget

S = 1_000_000


def failed(breaker: Breaker, times: int, now: int) -> None:
    for _ in range(times):
        probe = breaker.begin(now)
        breaker.ended(False, now, probe=probe)


def test_a_breaker_opens_at_its_share_of_failures_and_not_before() -> None:
    breaker = Breaker(BreakerOptions(window=10, calls_min=4, failure_share=0.5))
    for ok in (True, True, False):
        assert not breaker.ended(ok, 0)
    assert breaker.state(0) == "closed"
    assert breaker.ended(False, 0)
    assert breaker.state(0) == "open"
    assert breaker.wait_us(1 * S) == 4 * S


def test_only_one_probe_goes_through_a_half_open_breaker() -> None:
    breaker = Breaker(BreakerOptions(calls_min=2, open_s=5))
    failed(breaker, 2, 0)
    assert breaker.state(5 * S) == "half-open"
    assert breaker.begin(5 * S)
    assert breaker.wait_us(5 * S) > 0


def test_a_probe_closes_the_breaker_or_opens_it_for_twice_as_long() -> None:
    breaker = Breaker(BreakerOptions(calls_min=2, open_s=5, open_s_max=12))
    failed(breaker, 2, 0)
    failed(breaker, 1, 5 * S)
    assert breaker.wait_us(5 * S) == 10 * S
    failed(breaker, 1, 15 * S)
    assert breaker.wait_us(15 * S) == 12 * S  # the bound
    probe = breaker.begin(27 * S)
    breaker.ended(True, 27 * S, probe=probe)
    assert breaker.state(27 * S) == "closed"
    assert breaker.seen(27 * S).counted == 0


def test_a_probe_that_was_given_up_leaves_room_for_another() -> None:
    breaker = Breaker(BreakerOptions(calls_min=2, open_s=5))
    failed(breaker, 2, 0)
    breaker.abandoned(probe=breaker.begin(5 * S))
    assert breaker.wait_us(5 * S) == 0


def test_a_probe_that_says_nothing_does_not_block_for_ever() -> None:
    breaker = Breaker(BreakerOptions(calls_min=2, open_s=5))
    failed(breaker, 2, 0)
    breaker.begin(5 * S)
    assert breaker.wait_us(10 * S) == 0


def test_a_call_that_began_before_the_breaker_opened_does_not_close_it() -> None:
    breaker = Breaker(BreakerOptions(calls_min=2))
    failed(breaker, 2, 0)
    assert not breaker.ended(True, 1)
    assert breaker.state(1) == "open"


@pytest.mark.parametrize(
    "options", [{"calls_min": 30}, {"failure_share": 0.0}, {"open_s": 0}, {"open_s": 9, "open_s_max": 8}]
)
def test_breaker_options_that_make_no_sense_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(DefinitionError, match="breaker"):
        BreakerOptions(**options)  # type: ignore[arg-type]


def test_retries_stay_under_their_share_of_calls_however_many_fail() -> None:
    budget = RetryBudget(0.2)
    for _ in range(10_000):
        budget.called()
        for _ in range(5):
            budget.retry()
    assert budget.retries <= 0.2 * 10_000 + 10
    assert budget.retries + budget.refused == 50_000


def test_an_agent_that_is_seldom_called_may_retry() -> None:
    budget = RetryBudget(0.2)
    budget.called()
    assert budget.retry()


def test_the_limit_grows_while_latency_is_at_its_best_and_shrinks_with_it() -> None:
    limit = Gradient(start=20, most=200)
    for _ in range(100):
        limit.ended(0.1, limit.limit, ok=True)
    grown = limit.limit
    assert grown > 60
    for _ in range(200):
        limit.ended(2.0, limit.limit, ok=True)
    assert limit.limit < grown / 10


def test_an_idle_instance_does_not_earn_a_limit() -> None:
    limit = Gradient(start=20)
    for _ in range(100):
        limit.ended(0.1, 1, ok=True)
    assert limit.limit == 20


def test_slots_are_given_in_order_and_the_queue_is_bounded() -> None:
    async def main() -> list[str]:
        slots = Slots("a@1/", 1, queue_max=2, wait_s=60)
        seen: list[str] = []

        async def call(name: str) -> None:
            await slots.enter()
            seen.append(name)
            await asyncio.sleep(0)
            slots.leave()

        await slots.enter()
        waiting = [asyncio.ensure_future(call(name)) for name in "abc"]
        await asyncio.sleep(0)
        slots.leave()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(results[2], Overloaded)
        assert slots.in_flight == slots.waiting == 0
        return seen

    assert asyncio.run(main()) == ["a", "b"]


def test_a_caller_that_gives_up_leaves_its_place_in_the_queue() -> None:
    async def main() -> None:
        slots = Slots("a@1/", 1, queue_max=10, wait_s=60)
        await slots.enter()
        tasks = [asyncio.ensure_future(slots.enter()) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        await asyncio.sleep(0)
        slots.leave()
        tasks[1].cancel()  # in the moment in which it has got its turn
        await asyncio.gather(tasks[0], tasks[1], return_exceptions=True)
        await tasks[2]
        assert (slots.in_flight, slots.waiting) == (1, 0)

    asyncio.run(main())


def test_nobody_waits_for_longer_than_allowed() -> None:
    async def main() -> None:
        slots = Slots("a@1/", 1, queue_max=10, wait_s=0.001)
        await slots.enter()
        with pytest.raises(Overloaded, match="no turn came"):
            await slots.enter()
        assert (slots.in_flight, slots.waiting) == (1, 0)

    asyncio.run(main())
