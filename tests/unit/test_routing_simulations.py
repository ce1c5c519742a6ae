"""The simulations of learning and balancing say what they are said to say, and docs/learning.md has what they made."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks import routing_balancing as balancing
from benchmarks import routing_learning as learning

DOCS = Path(__file__).parents[2] / "docs"
SPEEDS = [1.0, 1.0, 0.5]


class Always:
    def __init__(self, agent: int) -> None:
        self.agent = agent

    def choose(self, agents: Sequence[int], now: int) -> int:
        return self.agent

    def learn(self, agent: int, ok: bool, now: int) -> None: ...


@pytest.mark.parametrize("name", ["routing-learning", "routing-balancing"])
def test_the_page_has_what_the_command_wrote(name: str) -> None:
    written = (DOCS / "generated" / f"{name}.md").read_text("utf-8")
    assert f"<!-- {name} -->\n{written}<!-- end -->" in (DOCS / "learning.md").read_text("utf-8")
    assert f"generated/{name}.png" in (DOCS / "learning.md").read_text("utf-8")
    assert (DOCS / "generated" / f"{name}.png").is_file()


def test_a_seed_tells_the_same_story_again() -> None:
    first, second = (learning.simulate(learning.FLEETS[2], learning.Cadenza, 5) for _ in range(2))
    assert first == second


def test_regret_is_against_the_best_of_the_agents_that_one_could_always_call() -> None:
    told = [learning.simulate(learning.FLEETS[2], lambda draw, agent=agent: Always(agent), 5) for agent in range(8)]
    assert min(one.regret[-1] for one in told) == 0
    assert min(one.lost for one in told) > 0, "whoever is called always, another one is better for a while"
    assert told[0].noticed == learning.CALLS
    assert told[0].forgiven == 0


def test_seeds_for_tuning_are_not_reported() -> None:
    assert not set(learning.TUNED) & set(learning.REPORTED)


def test_a_degraded_agent_is_noticed_within_a_hundred_calls_and_forgiven() -> None:
    told = learning.simulate(learning.FLEETS[2], learning.Cadenza, 5)
    assert told.noticed < 100
    assert told.forgiven < learning.CALLS


@pytest.mark.parametrize("way", balancing.WAYS, ids=lambda way: way.title)
def test_every_call_is_served_for_as_long_as_its_work_takes(way: balancing.Way) -> None:
    calls = balancing.calls_of(1, 0.7, SPEEDS, 300)
    pool = balancing.Pool(SPEEDS, way.make(random.Random(1), SPEEDS))
    for call in calls:
        while pool.events and pool.events[0][0] <= call.arrives_s:
            pool.end_next()
        pool.take(call, call.arrives_s)
    while pool.events:
        pool.end_next()
    assert sorted(pool.ends) == [call.number for call in calls]
    assert all(pool.ends[call.number] >= call.arrives_s + call.work_s * 0.999 for call in calls)


def test_no_balancer_ends_a_batch_before_all_work_can_be_done() -> None:
    calls = balancing.calls_of(1, 1.0, SPEEDS, 300)
    least_s = sum(call.work_s for call in calls) / sum(SPEEDS)
    assert least_s <= balancing.clairvoyant(calls, SPEEDS) < 1.05 * least_s
    for way in balancing.WAYS:
        assert balancing.batch(calls, SPEEDS, way.make(random.Random(1), SPEEDS)) >= least_s


def test_the_central_queue_leaves_the_slow_instance_alone_below_its_threshold() -> None:
    calls = [balancing.Call(number, 0.0, 1.0) for number in range(4)]
    assert balancing.batch(calls, SPEEDS, balancing.Pulled(0)) == 2.0
    pool = balancing.Pool(SPEEDS, balancing.Pulled(10))
    for call in calls:
        pool.take(call, 0.0)
    assert pool.serving[2] is None
    assert len(pool.central) == 2
