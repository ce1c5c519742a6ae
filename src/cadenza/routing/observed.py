"""What was seen of instances, as scorers read it: means by skill and instance, kept up to date."""

from __future__ import annotations

import math
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import NamedTuple
from weakref import WeakKeyDictionary

from cadenza.routing.learn import Performance, Record

PRIOR_WEIGHT = 2.0
"""How many observations a card's latency is worth."""


class Observed(NamedTuple):
    """What was seen of one instance for one skill; None is unknown."""

    price_usd: float | None
    latency_s: float | None
    weight: float

    def price(self, prior: float | None) -> float | None:
        """What was paid; what the card says where that is unknown."""
        return prior if self.price_usd is None else self.price_usd

    def latency(self, prior: float | None) -> float | None:
        """What it took, with what the card says as a few more observations."""
        if self.latency_s is None or prior is None:
            return prior if self.latency_s is None else self.latency_s
        return (self.latency_s * self.weight + prior * PRIOR_WEIGHT) / (self.weight + PRIOR_WEIGHT)


CHANGES_MAX = 100_000

performance_now: ContextVar[Performance | None] = ContextVar("cadenza_performance", default=None)
"""What is known in the store of the choice that is being made."""


@dataclass(slots=True)
class Seen:
    """What was seen for one skill: by the instance's key, and the keys in the order in which they changed."""

    of: dict[str, Observed] = field(default_factory=dict[str, Observed])
    changed: list[str] = field(default_factory=list[str])


NOTHING = Seen()


class _Means:
    def __init__(self) -> None:
        self.by_skill: dict[str, Seen] = {}
        self._last: Record | None = None

    def update(self, performance: Performance) -> None:
        """Take in the records that are newer than the last one; the newest are at the end."""
        records = performance.dumped()
        for record in reversed(records):
            if record is self._last:
                break
            seen = self.by_skill.setdefault(record.skill, Seen())
            if len(seen.changed) >= CHANGES_MAX:  # whoever has followed them begins anew
                seen = self.by_skill[record.skill] = Seen(seen.of)
            seen.of[record.instance] = _mean(record)
            seen.changed.append(record.instance)
        self._last = records[-1] if records else None


_means: WeakKeyDictionary[Performance, _Means] = WeakKeyDictionary()


def observed(skill: str) -> Seen:
    """What was seen of instances for a skill."""
    performance = performance_now.get()
    if performance is None:
        return NOTHING
    means = _means.setdefault(performance, _Means())
    means.update(performance)
    return means.by_skill.get(skill, NOTHING)


def _mean(record: Record) -> Observed:
    price = record.price_sum / record.price_weight if record.price_weight else None
    if not record.latency_weight:
        return Observed(price, None, 0.0)
    mean = record.latency_sum / record.latency_weight
    variance = max(0.0, record.latency_squares / record.latency_weight - mean * mean)
    return Observed(price, math.exp(mean + variance / 2), record.latency_weight)
