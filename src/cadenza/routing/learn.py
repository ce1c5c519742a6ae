"""What is learned of instances from the calls that they had, and how a choice weighs it: Thompson sampling with decay.

Pure: no I/O, and the clock is passed. ``learned.py`` keeps it in the catalogue.

Sources: W. R. Thompson, "On the likelihood that one unknown probability exceeds another", Biometrika 25 (1933);
V. Raj and S. Kalyani, "Taming non-stationary bandits: a Bayesian approach" (2017), for the discounting;
F. J. Anscombe, "The transformation of Poisson, binomial and negative-binomial data", Biometrika 35 (1948), for the
angle whose spread hardly depends on the rate.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

EXACT_MAX = 64  # up to so many candidates are drawn from their Beta itself; more from the angle, 20 times as fast
TICKS = 16  # in a half-life; within one nothing is taken to decay
P95 = 1.6449  # the standard normal distribution's 95th percentile


@dataclass(frozen=True, slots=True)
class Observation:
    """How one attempt ended.

    Attributes:
        key: the attempt's idempotency key: the same key counts once.
        instance: the key of the instance.
        skill: what was asked of it; empty where nobody said.
        price_usd: None is unknown, and stays unknown.
        at: microseconds since 1970.
        quality: 0 to 1, of an attempt that did not fail; None counts as 1.
    """

    key: str
    instance: str
    skill: str
    ok: bool
    latency_s: float
    price_usd: float | None
    at: int
    quality: float | None = None

    def __post_init__(self) -> None:
        """Refuse numbers that would spoil the sums of all the others.

        Raises:
            ValueError: a latency or price that is negative or no number, or a quality outside 0 to 1.
        """
        if not 0 <= self.latency_s < math.inf:
            raise ValueError(f"observation {self.key}: latency_s is {self.latency_s}, seconds of at least 0 are needed")
        if self.price_usd is not None and not 0 <= self.price_usd < math.inf:
            raise ValueError(f"observation {self.key}: price_usd is {self.price_usd}; give None where it is unknown")
        if self.quality is not None and not 0 <= self.quality <= 1:
            raise ValueError(f"observation {self.key}: quality is {self.quality}, 0 to 1 is needed")


@dataclass(frozen=True, slots=True)
class Learning:
    """How fast is learned and forgotten. The defaults are tuned by ``python -m benchmarks.routing_learning --tune``.

    Attributes:
        half_life_s, half_life_calls: after so long, or after so many calls of its skill, whoever they went to, an
            observation weighs half. Both count: what is busy learns fast, and what is idle forgets too.
        window: all observations of a pair weigh at most as much as so many fresh ones, however many there were.
        floor: and at least as much as so many, however old they are: who failed is not forgotten altogether.
        prior_success, prior_weight: what is supposed of a new instance, and how many observations that is worth.
        proven: with less evidence than this, an instance is on trial.
        trial_share: of the choices; in the others nobody on trial may be drawn better than its mean,
            as long as somebody proven is at least as good as a new instance is supposed to be.
        pairs_max: (instance, skill) pairs that are kept; the one that was longest not seen goes first.
        keys_max: keys that are kept for counting once.
    """

    half_life_s: float = 3600.0
    half_life_calls: float = 300.0
    window: float = 50.0
    floor: float = 3.0
    prior_success: float = 0.8
    prior_weight: float = 2.0
    proven: float = 8.0
    trial_share: float = 0.02
    pairs_max: int = 50_000
    keys_max: int = 100_000


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of an instance for a skill, as of one moment.

    Attributes:
        successes, failures: decayed counts, without the prior.
        seen: observations that there ever were.
        latency_s, latency_p95_s: the expected and the 95th percentile, as of a lognormal; None is unknown.
        price_usd: the mean of the known prices; None is unknown.
        last_at: the moment of the last observation; None if there was none.
        latency_weight: what the latencies weigh, in observations.
    """

    successes: float = 0.0
    failures: float = 0.0
    seen: int = 0
    latency_s: float | None = None
    latency_p95_s: float | None = None
    price_usd: float | None = None
    last_at: int | None = None
    latency_weight: float = 0.0

    def latency_expected_s(self, prior_s: float | None, prior_weight: float = 2.0) -> float | None:
        """The expected latency, where the card's ``latency_s`` is worth ``prior_weight`` observations."""
        if self.latency_s is None or prior_s is None:
            return prior_s if self.latency_s is None else self.latency_s
        together = self.latency_weight + prior_weight
        return (self.latency_s * self.latency_weight + prior_s * prior_weight) / together

    def price_expected_usd(self, prior_usd: float | None) -> float | None:
        """What was paid; the card's price where nothing is known; None where that is unknown too."""
        return prior_usd if self.price_usd is None else self.price_usd


class Record(NamedTuple):
    """The decayed sums of one (instance, skill), as of ``at``: a row of ``routing_performance``, in its order."""

    instance: str
    skill: str
    at: int = 0
    calls: int = 0  # of the skill, whoever they went to
    seen: int = 0
    weight: float = 0.0
    successes: float = 0.0
    latency_weight: float = 0.0
    latency_sum: float = 0.0
    latency_squares: float = 0.0
    price_weight: float = 0.0
    price_sum: float = 0.0


def folded(record: Record, seen: Observation, calls: int, learning: Learning) -> Record:
    """The record with one more observation, which is the ``calls``-th of its skill.

    One that comes late (older than the record) weighs what is left of it.
    """
    now = max(record.at, seen.at)
    weight = 0.5 ** ((now - seen.at) / 1e6 / learning.half_life_s)
    age = _age(record, now, calls, learning)
    good = (1.0 if seen.quality is None else seen.quality) if seen.ok else 0.0
    outcomes = _with((record.weight, record.successes), (weight, weight * good), age, learning)
    latency = (record.latency_weight, record.latency_sum, record.latency_squares)
    spent = math.log(max(seen.latency_s, 1e-6))
    # A failure that came sooner than the answers do says nothing of speed; one that came later does.
    if seen.ok or (latency[0] and spent > latency[1] / latency[0]):
        latency = _with(latency, (weight, weight * spent, weight * spent * spent), age, learning)
    else:
        latency = _with(latency, (0.0, 0.0, 0.0), age, learning)
    paid = (0.0, 0.0) if seen.price_usd is None else (weight, weight * seen.price_usd)
    price = _with((record.price_weight, record.price_sum), paid, age, learning)
    return Record(record.instance, record.skill, now, calls, record.seen + 1, *outcomes, *latency, *price)


def _age(record: Record, now: int, calls: int, learning: Learning) -> float:
    """The half-lives that have passed since the record's last observation."""
    seconds = max(0, now - record.at) / 1e6
    return seconds / learning.half_life_s + max(0, calls - record.calls) / learning.half_life_calls


def _with(sums: tuple[float, ...], new: tuple[float, ...], age: float, learning: Learning) -> tuple[float, ...]:
    """Sums (the first is their weight) after ``age`` half-lives, with new ones, within the window."""
    kept = _kept(sums[0], age, learning)
    if sums[0] * kept + new[0] > learning.window:
        kept = (learning.window - new[0]) / sums[0]
    return tuple(old * kept + more for old, more in zip(sums, new, strict=True))


def _kept(weight: float, age: float, learning: Learning) -> float:
    """The share of sums that weigh ``weight`` which is left after ``age`` half-lives."""
    return 1.0 if weight <= learning.floor else max(0.5**age, learning.floor / weight)


class Posterior(NamedTuple):
    """What a draw needs, made once for many draws: ``Beta(alpha, beta)``, and the same as a normal angle."""

    alpha: float
    beta: float
    mean: float
    angle: float
    spread: float
    proven: bool


def posterior(weight: float, successes: float, learning: Learning) -> Posterior:
    """The posterior of a success rate; ``successes`` out of ``weight`` observations, both decayed.

    The draw ``sin(angle + spread * z) ** 2`` with a standard normal z has the Beta's mean, and nearly its spread.
    """
    alpha = learning.prior_success * learning.prior_weight + successes
    beta = (1 - learning.prior_success) * learning.prior_weight + weight - successes
    mean = alpha / (alpha + beta)
    spread = 0.5 / math.sqrt(alpha + beta + 1)
    cosine = (1 - 2 * mean) * math.exp(2 * spread * spread)
    angle = 0.5 * math.acos(min(1.0, max(-1.0, cosine)))
    return Posterior(alpha, beta, mean, angle, spread, weight >= learning.proven)


@cache
def _normal() -> tuple[float, ...]:
    """1024 equally likely values of a standard normal variable."""
    from statistics import NormalDist

    return tuple(NormalDist().inv_cdf((number + 0.5) / 1024) for number in range(1024))


class Performance:
    """What is known of all instances."""

    def __init__(self, learning: Learning | None = None) -> None:
        self.learning = learning or Learning()
        self._records: dict[tuple[str, str], Record] = {}
        self._keys: dict[str, None] = {}
        self._fresh = posterior(0.0, 0.0, self.learning)
        self._posteriors: dict[str, dict[str, Posterior]] = {}  # by skill and instance
        self._decaying: dict[str, set[str]] = {}  # those of the posteriors that hold for this tick only
        self._ticks: dict[str, int] = {}
        self._calls: dict[str, int] = {}  # of each skill

    def observe(self, seen: Observation) -> bool:
        """Learn from an observation; False if its key has been counted before."""
        if seen.key in self._keys:
            return False
        self._keys[seen.key] = None
        if len(self._keys) > self.learning.keys_max:
            del self._keys[next(iter(self._keys))]
        record = self._records.get((seen.instance, seen.skill)) or Record(seen.instance, seen.skill, seen.at)
        self.loaded([folded(record, seen, self._calls.get(seen.skill, 0) + 1, self.learning)])
        return True

    def known(self, instance: str, skill: str, now: int) -> Known:
        """What is known of an instance for a skill."""
        record = self._records.get((instance, skill))
        if record is None:
            return Known()
        age = _age(record, now, self._calls[skill], self.learning)
        kept = _kept(record.weight, age, self.learning)
        known = {"successes": record.successes * kept, "failures": (record.weight - record.successes) * kept}
        latency = _latency(record)
        return Known(
            **known,
            seen=record.seen,
            latency_s=latency and latency[0],
            latency_p95_s=latency and latency[1],
            price_usd=record.price_sum / record.price_weight if record.price_weight else None,
            last_at=record.at,
            latency_weight=record.latency_weight * _kept(record.latency_weight, age, self.learning),
        )

    def drawn(self, instances: Sequence[str], skill: str, draw: random.Random, now: int) -> list[float]:
        """A success rate for each instance, drawn from what is known of it (Thompson sampling): the best one is tried.

        Whoever is on trial, because it is new or has not been called for long, is rationed: see ``Learning``.

        Args:
            instances: their keys.
            draw: its state decides; the same state and knowledge draw the same.
            now: microseconds since 1970.
        """
        posteriors = self._all_posteriors(instances, skill, now)
        if len(posteriors) <= EXACT_MAX:
            values = [draw.betavariate(known.alpha, known.beta) for known in posteriors]
        else:
            sin, normal = math.sin, draw.choices(_normal(), k=len(posteriors))
            values = [sin(p[3] + p[4] * z) ** 2 for p, z in zip(posteriors, normal, strict=True)]
        best = max((known[2] for known in posteriors if known[5]), default=0.0)
        if best >= self.learning.prior_success and draw.random() >= self.learning.trial_share:
            return [
                value if known[5] or value < known[2] else known[2]
                for value, known in zip(values, posteriors, strict=True)
            ]
        return values

    def dumped(self) -> list[Record]:
        """All records, those first that were longest not seen."""
        return list(self._records.values())

    def loaded(self, records: Iterable[Record]) -> None:
        """Take records that were dumped, or read from the catalogue: each replaces the one of its pair."""
        for record in records:
            pair = (record.instance, record.skill)
            self._records.pop(pair, None)
            self._records[pair] = record
            self._calls[record.skill] = max(record.calls, self._calls.get(record.skill, 0))
            self._forget_posterior(*pair)
            if len(self._records) > self.learning.pairs_max:
                self._forget_oldest()

    def _all_posteriors(self, instances: Sequence[str], skill: str, now: int) -> list[Posterior]:
        learning, calls = self.learning, self._calls.get(skill, 0)
        if len(self._ticks) > learning.pairs_max or len(self._posteriors.get(skill, ())) > learning.pairs_max:
            for made in (self._ticks, self._posteriors, self._decaying):
                made.clear()  # they are made again from the records
        tick = int(TICKS * (now / 1e6 / learning.half_life_s + calls / learning.half_life_calls))
        if tick != self._ticks.get(skill):
            self._ticks[skill] = tick
            for instance in self._decaying.pop(skill, ()):
                self._forget_posterior(instance, skill)
        found = self._posteriors.setdefault(skill, {})
        get, make = found.get, self._posterior
        return [get(instance) or make(found, instance, skill, now) for instance in instances]

    def _posterior(self, found: dict[str, Posterior], instance: str, skill: str, now: int) -> Posterior:
        record = self._records.get((instance, skill))
        made = self._fresh
        if record is not None:
            kept = _kept(record.weight, _age(record, now, self._calls[skill], self.learning), self.learning)
            made = posterior(record.weight * kept, record.successes * kept, self.learning)
            if record.weight * kept > self.learning.floor:
                self._decaying.setdefault(skill, set()).add(instance)
        found[instance] = made
        return made

    def _forget_oldest(self) -> None:
        oldest = next(iter(self._records))
        del self._records[oldest]
        self._forget_posterior(*oldest)
        if len(self._calls) > 2 * self.learning.pairs_max:
            skills = {skill for _, skill in self._records}
            self._calls = {skill: calls for skill, calls in self._calls.items() if skill in skills}

    def _forget_posterior(self, instance: str, skill: str) -> None:
        self._posteriors.get(skill, {}).pop(instance, None)


def _latency(record: Record) -> tuple[float, float] | None:
    """Expected latency and its 95th percentile, in seconds, of the lognormal that fits; None if nothing was seen."""
    if not record.latency_weight:
        return None
    mean = record.latency_sum / record.latency_weight
    variance = max(0.0, record.latency_squares / record.latency_weight - mean * mean)
    return math.exp(mean + variance / 2), math.exp(mean + P95 * math.sqrt(variance))
