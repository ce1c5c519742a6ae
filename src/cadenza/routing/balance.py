"""Spreading calls over instances that are equally able: by how many calls each has outstanding.

``least`` looks at all instances: the better one for counts that are of this moment, as these are. ``two`` looks at two
that it draws: for very many instances, and for counts that others keep and that are old when they are read, where all
who look at all of them would run to the same place.

Sources: W. Winston, "Optimality of the shortest line discipline", Journal of Applied Probability 14 (1977);
M. Mitzenmacher, "The power of two choices in randomized load balancing", IEEE Transactions on Parallel and Distributed
Systems 12 (2001), and "How useful is old information?", in volume 11 (2000).
"""

from __future__ import annotations

import random
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager


class Outstanding:
    """The calls that this process has begun and not ended, by instance. Safe to use from any thread."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._lock = threading.Lock()

    @contextmanager
    def calling(self, instance: str) -> Generator[None]:
        """Count a call of an instance for as long as the block runs, however it ends."""
        with self._lock:
            self._counts[instance] = self._counts.get(instance, 0) + 1
        try:
            yield
        finally:
            with self._lock:
                if self._counts[instance] == 1:
                    del self._counts[instance]  # instances come and go: only the busy ones are kept
                else:
                    self._counts[instance] -= 1

    def of(self, instance: str) -> int:
        """Calls of an instance that are under way."""
        return self._counts.get(instance, 0)

    def busy(self) -> dict[str, int]:
        """Calls under way of each instance that has any."""
        with self._lock:
            return dict(self._counts)

    def free(self, instances: Sequence[str], concurrency: Sequence[float]) -> list[float]:
        """How free each instance is: 1 if it is idle, 1/2 if it is just full, towards 0 as calls wait."""
        _check(instances, concurrency)
        get = self._counts.get
        return [one / (one + get(instance, 0)) for instance, one in zip(instances, concurrency, strict=True)]

    def least(self, instances: Sequence[str], rates: Sequence[float], draw: random.Random) -> str:
        """The instance where one more call would end soonest; a draw among equals.

        Args:
            instances: their keys; at least one.
            rates: how many calls each can do at a time, or in a second where that is known (concurrency divided by
                expected latency): only their proportions matter.
        """
        _check(instances, rates)
        waits = self._waits(instances, rates)
        shortest = min(waits)
        return draw.choice([instance for instance, wait in zip(instances, waits, strict=True) if wait == shortest])

    def two(self, instances: Sequence[str], rates: Sequence[float], draw: random.Random) -> str:
        """Of two instances, drawn in proportion to their rates, the one where one more call would end sooner.

        Args:
            instances, rates: as for ``least``.
        """
        _check(instances, rates)
        if len(instances) == 1:
            return instances[0]
        numbers = range(len(instances))
        first = draw.choices(numbers, rates)[0]
        others = [0.0 if number == first else rate for number, rate in enumerate(rates)]
        second = draw.choices(numbers, others)[0]
        one, other = self._waits([instances[first], instances[second]], [rates[first], rates[second]])
        return instances[first if one <= other else second]

    def _waits(self, instances: Sequence[str], rates: Sequence[float]) -> list[float]:
        get = self._counts.get
        return [(get(instance, 0) + 1) / rate for instance, rate in zip(instances, rates, strict=True)]


def _check(instances: Sequence[str], rates: Sequence[float]) -> None:
    """Raises ValueError where there is nothing to choose from, or a rate says nothing."""
    if not instances or len(instances) != len(rates):
        raise ValueError(f"{len(instances)} instances and {len(rates)} rates: at least one, and one rate for each")
    if not min(rates) > 0:
        raise ValueError(f"a rate is {min(rates)}: an instance that takes no calls is no candidate, leave it out")


outstanding = Outstanding()
"""The calls of this process."""
