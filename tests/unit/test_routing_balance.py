"""Calls are spread over instances by how many each has outstanding."""

from __future__ import annotations

import random
import threading
from collections import Counter
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cadenza.routing.balance import Outstanding


def busy(counts: dict[str, int], stack: ExitStack) -> Outstanding:
    calls = Outstanding()
    for instance, count in counts.items():
        for _ in range(count):
            stack.enter_context(calls.calling(instance))
    return calls


def test_a_call_is_counted_until_it_ends_however_it_ends() -> None:
    calls = Outstanding()
    with pytest.raises(RuntimeError), calls.calling("a"), calls.calling("a"):
        assert calls.of("a") == 2
        raise RuntimeError
    assert calls.of("a") == 0
    assert not calls._counts, "an idle instance takes no memory"


def test_calls_of_many_threads_are_all_counted() -> None:
    calls, together = Outstanding(), threading.Barrier(8)

    def call() -> None:
        together.wait()
        for _ in range(2000):
            with calls.calling("a"):
                pass

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls.of("a") == 0


def test_free_falls_from_one_over_one_half_when_full() -> None:
    with ExitStack() as stack:
        calls = busy({"full": 4, "queueing": 12}, stack)
        assert calls.free(["idle", "full", "queueing"], [4, 4, 4]) == [1.0, 0.5, 0.25]


def test_least_takes_the_shortest_wait_for_what_each_can_do() -> None:
    with ExitStack() as stack:
        calls = busy({"large": 6, "small": 2}, stack)
        assert calls.least(["large", "small"], [8, 2], random.Random(1)) == "large"
        assert calls.least(["large", "small"], [1, 1], random.Random(1)) == "small"


def test_least_draws_among_equals() -> None:
    calls, draw = Outstanding(), random.Random(1)
    chosen = Counter(calls.least(["a", "b", "c"], [1, 1, 1], draw) for _ in range(300))
    assert min(chosen.values()) > 60


@given(
    st.lists(st.tuples(st.integers(0, 5), st.floats(0.1, 10)), min_size=1, max_size=8),
    st.integers(),
)
def test_two_never_takes_the_worst_of_three_or_more(state: list[tuple[int, float]], seed: int) -> None:
    names = [str(number) for number in range(len(state))]
    with ExitStack() as stack:
        calls = busy({name: count for name, (count, _) in zip(names, state, strict=True)}, stack)
        chosen = calls.two(names, [rate for _, rate in state], random.Random(seed))
        waits = {name: (count + 1) / rate for name, (count, rate) in zip(names, state, strict=True)}
    others = [wait for name, wait in waits.items() if name != chosen]
    assert not others or waits[chosen] <= max(others)


def test_two_draws_in_proportion_to_the_rates() -> None:
    calls, draw = Outstanding(), random.Random(1)
    with ExitStack() as stack:
        chosen: Counter[str] = Counter()
        for _ in range(1000):
            instance = calls.two(["large", "small"], [9, 1], draw)
            chosen[instance] += 1
            stack.enter_context(calls.calling(instance))
    assert chosen["large"] == pytest.approx(900, abs=5)


@pytest.mark.parametrize(("instances", "rates"), [([], []), (["a"], []), (["a"], [0.0]), (["a"], [float("nan")])])
def test_nothing_to_choose_from_is_said_in_words(instances: list[str], rates: list[float]) -> None:
    with pytest.raises(ValueError, match="rate"):
        Outstanding().two(instances, rates, random.Random(1))
