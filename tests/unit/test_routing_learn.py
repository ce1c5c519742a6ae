"""What is learned of instances: counted once, decayed, drawn, and bounded."""

from __future__ import annotations

import math
import random
import statistics
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cadenza.routing.learn import EXACT_MAX, Known, Learning, Observation, Performance, Record, folded, posterior

SECOND = 1_000_000
START = 1_700_000_000 * SECOND


def seen(
    number: int, instance: str = "a", *, ok: bool = True, latency_s: float = 1.0, **changes: object
) -> Observation:
    given = {"price_usd": None, "at": START + number * SECOND, "skill": "sum"} | changes
    return Observation(f"{instance}.{number}", instance, ok=ok, latency_s=latency_s, **given)  # pyright: ignore[reportArgumentType]


def taught(outcomes: dict[str, str], learning: Learning | None = None) -> Performance:
    """An observation a second for each letter: ``y`` went well, ``n`` did not."""
    performance = Performance(learning)
    for instance, letters in outcomes.items():
        for number, letter in enumerate(letters):
            performance.observe(seen(number, instance, ok=letter == "y"))
    return performance


def winners(performance: Performance, instances: list[str], now: int, *, choices: int = 1000) -> Counter[str]:
    draw = random.Random(7)
    won: Counter[str] = Counter()
    for _ in range(choices):
        drawn = performance.drawn(instances, "sum", draw, now)
        won[instances[drawn.index(max(drawn))]] += 1
    return won


def test_the_same_key_counts_once() -> None:
    performance = Performance()
    assert performance.observe(seen(1))
    assert not performance.observe(seen(1, ok=False))
    assert performance.known("a", "sum", START + SECOND).seen == 1
    assert performance.known("a", "sum", START + SECOND).failures == 0


def test_an_observation_weighs_half_after_the_half_life() -> None:
    performance = taught({"a": "y" * 40}, Learning(half_life_s=100, half_life_calls=1e9, floor=1, window=1000))
    now = START + 39 * SECOND
    before, after = performance.known("a", "sum", now), performance.known("a", "sum", now + 100 * SECOND)
    assert after.successes == pytest.approx(before.successes / 2)
    assert after.seen == before.seen == 40


def test_an_observation_weighs_half_after_so_many_calls_that_went_to_others() -> None:
    performance = taught({"a": "y" * 40}, Learning(half_life_s=1e9, half_life_calls=100, floor=1, window=1000))
    before = performance.known("a", "sum", START).successes
    for number in range(100):
        performance.observe(seen(number, "b"))
        performance.observe(seen(number, "c", skill="translate"))
    assert performance.known("a", "sum", START).successes == pytest.approx(before / 2)


def test_what_is_old_keeps_a_little_weight_and_its_rate() -> None:
    performance = taught({"a": "yynn" * 10}, Learning(floor=3))
    after = performance.known("a", "sum", START + 10**9 * SECOND)
    assert after.successes + after.failures == pytest.approx(3)
    assert after.successes == pytest.approx(1.5, abs=0.1)


def test_evidence_never_weighs_more_than_the_window() -> None:
    performance = taught({"a": "y" * 500}, Learning(window=50, half_life_s=1e9, half_life_calls=1e9))
    assert performance.known("a", "sum", START).successes == pytest.approx(50)


@given(
    st.lists(st.tuples(st.booleans(), st.floats(0, 1e4), st.integers(0, 5_000), st.floats(0, 1)), max_size=60),
    st.integers(0, 10_000),
)
def test_sums_stay_within_their_bounds_in_any_order_of_arrival(
    arrived: list[tuple[bool, float, int, float]], later: int
) -> None:
    learning = Learning()
    performance = Performance(learning)
    for number, (ok, latency_s, second, quality) in enumerate(arrived):
        at = START + second * SECOND
        performance.observe(
            Observation(str(number), "a", "sum", ok, latency_s, price_usd=quality, at=at, quality=quality)
        )
    known = performance.known("a", "sum", START + later * SECOND)
    assert known.seen == len(arrived)
    assert known.successes >= -1e-9
    assert known.failures >= -1e-9
    assert known.successes + known.failures <= learning.window + 1e-6
    if known.price_usd is not None:
        prices = [price for *_, price in arrived]
        assert min(prices) - 1e-6 <= known.price_usd <= max(prices) + 1e-6
    if known.latency_s is not None and known.latency_p95_s is not None:
        assert math.isfinite(known.latency_s)
        assert known.latency_p95_s >= 0


def test_latency_is_told_as_mean_and_95th_percentile() -> None:
    performance, draw = Performance(Learning(window=2000, half_life_s=1e9, half_life_calls=1e9)), random.Random(3)
    latencies = [draw.lognormvariate(0.5, 0.4) for _ in range(2000)]
    for number, latency_s in enumerate(latencies):
        performance.observe(seen(number, latency_s=latency_s))
    known = performance.known("a", "sum", START)
    assert known.latency_s == pytest.approx(statistics.fmean(latencies), rel=0.02)
    assert known.latency_p95_s == pytest.approx(statistics.quantiles(latencies, n=20)[-1], rel=0.05)


def test_a_failure_that_came_at_once_does_not_look_fast_and_a_timeout_looks_slow() -> None:
    performance = Performance()
    performance.observe(seen(1, ok=False, latency_s=0.001))
    assert performance.known("a", "sum", START).latency_s is None
    performance.observe(seen(2, latency_s=2.0))
    performance.observe(seen(3, ok=False, latency_s=0.001))
    assert performance.known("a", "sum", START).latency_s == pytest.approx(2.0)
    performance.observe(seen(4, ok=False, latency_s=60.0))
    latency_s = performance.known("a", "sum", START).latency_s
    assert latency_s is not None
    assert latency_s > 10


def test_an_unknown_price_stays_unknown_and_is_no_part_of_the_mean() -> None:
    performance = Performance()
    performance.observe(seen(1))
    assert performance.known("a", "sum", START).price_usd is None
    performance.observe(seen(2, price_usd=0.04))
    performance.observe(seen(3, price_usd=None))
    performance.observe(seen(4, price_usd=0.0))
    assert performance.known("a", "sum", START).price_usd == pytest.approx(0.02, rel=0.01)


def test_the_card_is_believed_until_something_was_seen() -> None:
    assert Known().latency_expected_s(2.0) == 2.0
    assert Known().latency_expected_s(None) is None
    assert Known().price_expected_usd(0.5) == 0.5
    assert Known().price_expected_usd(None) is None
    measured = Known(latency_s=4.0, latency_weight=2.0, price_usd=0.1)
    assert measured.latency_expected_s(2.0) == pytest.approx(3.0)
    assert measured.latency_expected_s(None) == 4.0
    assert measured.price_expected_usd(0.5) == 0.1


def test_a_quality_counts_as_a_part_of_a_success() -> None:
    performance = Performance()
    performance.observe(seen(1, quality=0.25))
    performance.observe(seen(2, ok=False, quality=0.9))
    known = performance.known("a", "sum", START)
    assert known.successes == pytest.approx(0.25, rel=0.01)
    assert known.failures == pytest.approx(1.75, rel=0.01)


def test_the_better_agent_gets_most_of_the_calls() -> None:
    performance = taught({"good": "y" * 40, "bad": "yn" * 20})
    assert winners(performance, ["good", "bad"], START + 40 * SECOND)["good"] > 950


def test_a_new_agent_is_tried_but_only_in_its_share_of_choices() -> None:
    performance = taught({"good": "y" * 40})
    new = [f"new{number}" for number in range(10)]
    tried = 1000 - winners(performance, ["good", *new], START + 40 * SECOND)["good"]
    assert 10 < tried < 90


def test_a_thousand_new_agents_get_no_larger_share_than_one() -> None:
    performance = taught({"good": "y" * 40})
    new = [f"new{number}" for number in range(1000)]
    assert 1000 - winners(performance, ["good", *new], START + 40 * SECOND)["good"] < 90


def test_new_agents_are_not_rationed_where_nobody_good_is_known() -> None:
    performance = taught({"bad": "n" * 40})
    assert winners(performance, ["bad", "new"], START + 40 * SECOND)["new"] > 950


def test_a_degraded_agent_loses_its_calls_and_is_probed_again_after_a_while() -> None:
    performance = taught({"good": "y" * 40, "degraded": "y" * 30 + "n" * 10}, Learning(half_life_s=60))
    at_once = winners(performance, ["good", "degraded"], START + 40 * SECOND)["degraded"]
    later = START + 1000 * SECOND
    performance.observe(Observation("k", "good", "sum", True, 1.0, None, later))
    assert at_once < 20
    assert winners(performance, ["good", "degraded"], later)["degraded"] > at_once


def test_many_candidates_are_drawn_from_nearly_the_same_distribution_as_few() -> None:
    performance, draw = taught({"a": "yyyyyyyyyn"}, Learning(trial_share=1.0)), random.Random(5)
    few = [value for _ in range(200) for value in performance.drawn(["a"] * EXACT_MAX, "sum", draw, START)]
    many = performance.drawn(["a"] * 10_000, "sum", draw, START)
    assert statistics.fmean(few) == pytest.approx(statistics.fmean(many), abs=0.01)
    assert statistics.stdev(few) == pytest.approx(statistics.stdev(many), rel=0.1)


@given(st.floats(0, 500), st.floats(0, 1))
def test_the_angle_has_the_mean_of_the_beta(weight: float, rate: float) -> None:
    known = posterior(weight, weight * rate, Learning())
    mean = 0.5 - 0.5 * math.cos(2 * known.angle) * math.exp(-2 * known.spread**2)
    assert mean == pytest.approx(known.alpha / (known.alpha + known.beta), abs=0.02)


def test_the_same_randomness_draws_the_same() -> None:
    performance = taught({"a": "yyn", "b": "yny"})
    first, second = (performance.drawn(["a", "b", "c"], "sum", random.Random(1), START) for _ in range(2))
    assert first == second


def test_skills_are_learned_apart() -> None:
    performance = taught({"a": "n" * 10})
    assert performance.known("a", "translate", START).seen == 0


def test_what_is_dumped_and_loaded_is_what_was_known() -> None:
    performance = taught({"a": "yyn", "b": "n" * 70})
    other = Performance()
    other.loaded(performance.dumped())
    assert other.dumped() == performance.dumped()
    assert other.drawn(["a", "b"], "sum", random.Random(1), START) == performance.drawn(
        ["a", "b"], "sum", random.Random(1), START
    )


def test_memory_is_bounded_and_the_oldest_goes_first() -> None:
    performance = Performance(Learning(pairs_max=3, keys_max=5))
    for number, instance in enumerate("abcabd"):
        performance.observe(seen(number, instance))
    assert [record.instance for record in performance.dumped()] == ["a", "b", "d"]
    assert performance.observe(seen(0, "a")), "the key that is older than the five last ones was given up"
    assert not performance.observe(seen(5, "d"))


def test_skills_and_instances_that_come_and_go_leave_nothing_behind() -> None:
    performance, draw = Performance(Learning(pairs_max=10)), random.Random(1)
    for number in range(200):
        performance.observe(seen(number, skill=f"skill {number}"))
        performance.drawn([f"{number}.{each}" for each in range(5)], f"skill {number}", draw, START)
        performance.drawn([f"{number}.{each}" for each in range(5)], "sum", draw, START)
    held = [performance._records, performance._calls, performance._ticks, performance._decaying]
    assert max(map(len, held)) <= 21
    assert sum(map(len, performance._posteriors.values())) <= 100
    assert performance.known("a", "skill 199", START).seen == 1


def test_draws_follow_what_was_observed_a_moment_ago() -> None:
    performance, draw = Performance(), random.Random(1)
    performance.drawn(["a", "b"], "sum", draw, START)
    for number in range(40):
        performance.observe(Observation(f"x{number}", "a", "sum", False, 1.0, None, START))
    mean = statistics.fmean(performance.drawn(["a"], "sum", draw, START)[0] for _ in range(100))
    assert mean < 0.15


def test_a_late_observation_weighs_what_would_be_left_of_it() -> None:
    learning = Learning(half_life_s=10)
    record = folded(Record("a", "sum", START), seen(20), 1, learning)
    late = folded(record, seen(10, ok=False), 1, learning)
    assert late.at == START + 20 * SECOND
    assert late.weight - late.successes == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"latency_s": -1.0}, "latency_s"),
        ({"latency_s": math.nan}, "latency_s"),
        ({"price_usd": -0.1}, "price_usd"),
        ({"price_usd": math.inf}, "price_usd"),
        ({"quality": 1.5}, "quality"),
    ],
)
def test_an_observation_that_would_spoil_the_sums_is_refused(changes: dict[str, float], names: str) -> None:
    with pytest.raises(ValueError, match=names):
        seen(1, **changes)  # pyright: ignore[reportArgumentType]
