"""Who is best: scorers, each from 0 (worst) to 1 (best), and the weights that presets give them.

A scorer that knows nothing of a candidate says None and takes no part in its mean: an unknown price is not a low one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from statistics import median_low
from typing import Any, Protocol, overload

from cadenza.agents.card import Card
from cadenza.errors import DefinitionError
from cadenza.routing.balance import outstanding
from cadenza.routing.choice import Score
from cadenza.routing.instance import Instance
from cadenza.routing.need import Need, Preset
from cadenza.routing.observed import Observed, Seen, observed, performance_now

PRESETS: dict[Preset, dict[str, float]] = {
    "quality": {"semantic": 2.0, "performance": 4.0, "price": 0.25, "latency": 0.25, "load": 0.5},
    "balanced": {"semantic": 2.0, "performance": 2.0, "price": 1.0, "latency": 1.0, "load": 1.0},
    "cheap": {"semantic": 1.0, "performance": 1.0, "price": 4.0, "latency": 0.25, "load": 0.5},
    "fast": {"semantic": 1.0, "performance": 1.0, "price": 0.25, "latency": 3.0, "load": 2.0},
}
"""Weights by the scorer's name. A rule's is 1 in each, unless its decorator says otherwise."""


class Scorer(Protocol):
    """One view of the candidates. ``version`` changes with what it computes: a table keeps it."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...

    def score(
        self, need: Need, text: str, candidates: Sequence[Instance], draw: random.Random, now: int
    ) -> Sequence[Score]:
        """One score for each candidate, in their order.

        Args:
            text: what is to be done, in plain words.
            draw: seeded by the call.
            now: microseconds since 1970.
        """
        ...


Columns = dict[str, list[Any]]


class Scores(Sequence[Score]):
    """Scores in columns: 10,000 of them are a list, not 10,000 objects.

    Args:
        values: of each candidate.
        detail: what they were made of: columns for the candidates at these places. None in a column is left out.
    """

    def __init__(
        self, values: Sequence[float | None], detail: Callable[[Sequence[int]], Columns] | None = None
    ) -> None:
        self.values = values
        self.detail = detail or _nothing

    @classmethod
    def of(cls, scores: Sequence[Score]) -> Scores:
        """The same in columns."""
        if isinstance(scores, Scores):
            return scores

        def detail(places: Sequence[int]) -> Columns:
            some = [scores[place].known for place in places]
            names = dict.fromkeys(name for known in some for name in known)
            return {name: [known.get(name) for known in some] for name in names}

        return cls([score.value for score in scores], detail)

    @overload
    def __getitem__(self, index: int) -> Score: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Score]: ...
    def __getitem__(self, index: int | slice) -> Score | Sequence[Score]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self.values)))]
        known = {name: column[0] for name, column in self.detail([index]).items() if column[0] is not None}
        return Score(self.values[index], known)

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[Score]:
        return (self[index] for index in range(len(self.values)))


def _nothing(places: Sequence[int]) -> Columns:
    return {}


scorers: dict[str, Scorer] = {}
"""Those that take part in every choice in which they have a weight, by name."""
rule_weights: dict[str, float] = {}


def weights_of(need: Need) -> dict[str, float]:
    """The weights of a need: its preset's, those of all rules, and its own. Raises DefinitionError."""
    if need.prefer not in PRESETS:
        raise DefinitionError(f"Need.prefer is one of {', '.join(PRESETS)}, not {need.prefer!r}")
    weights = PRESETS[need.prefer] | rule_weights | need.weights
    for name, weight in need.weights.items():
        if name not in scorers and name not in PRESETS[need.prefer]:
            raise DefinitionError(f"Need.weights names {name!r}; the scorers are {', '.join(sorted(scorers))}")
        if not 0 <= weight < float("inf"):
            raise DefinitionError(f"Need.weights: {name} is a number from 0 up, not {weight}")
    return {name: weight for name, weight in weights.items() if weight > 0 and name in scorers}


# --- rules ------------------------------------------------------------------------------------------------------------

RuleFunction = Callable[[Need, Card], float | None]


class Rule:
    """A user's function as a scorer."""

    version = "1"

    def __init__(self, fn: RuleFunction, name: str) -> None:
        self.fn, self.name = fn, name

    def __call__(self, need: Need, card: Card) -> float | None:
        return self.fn(need, card)

    def score(
        self, need: Need, text: str, candidates: Sequence[Instance], draw: random.Random, now: int
    ) -> Sequence[Score]:
        """See ``Scorer``. Raises DefinitionError if the function's value is none of a score."""
        values = [self.fn(need, each.card) for each in candidates]
        for value, each in zip(values, candidates, strict=True):
            if value is not None and not 0 <= value <= 1:
                raise DefinitionError(f"the scorer {self.name} says {value} of {each.key}; a score is from 0 to 1")
        return Scores(values)


@overload
def scorer(fn: RuleFunction, /) -> Rule: ...
@overload
def scorer(*, name: str = "", weight: float = 1.0) -> Callable[[RuleFunction], Rule]: ...
def scorer(fn: RuleFunction | None = None, /, *, name: str = "", weight: float = 1.0) -> Any:
    """Let a function of a need and a card take part in every choice.

    Args:
        fn: returns 0 (worst) to 1 (best), or None where it has nothing to say; it does no I/O.
        name: under which it is shown and weighted; the function's by default.
        weight: beside those of the presets; ``Need.weights`` can say otherwise.

    Raises:
        DefinitionError: another scorer has the name.
    """

    def decorate(function: RuleFunction) -> Rule:
        made = Rule(function, name or function.__name__)
        other = scorers.get(made.name)
        if other is not None and not (isinstance(other, Rule) and _place(other.fn) == _place(function)):
            raise DefinitionError(f"{_place(function)}: another scorer is named {made.name!r}. Give name=…")
        scorers[made.name], rule_weights[made.name] = made, weight
        return made

    return decorate if fn is None else decorate(fn)


def _place(fn: RuleFunction) -> str:
    return f"{fn.__module__}:{fn.__qualname__}"


# --- price and latency ------------------------------------------------------------------------------------------------


class LowIsGood:
    """A scorer of a quantity: half the median's is 2/3, the median's 1/2, twice the median's 1/3.

    Args:
        prior: reads it from a card; None where the card does not say.
        observed: what was seen of an instance; it replaces what its card says.
    """

    version = "1"

    def __init__(
        self,
        name: str,
        unit: str,
        prior: Callable[[Card], float | None],
        observed: Callable[[Observed, float | None], float | None],
    ) -> None:
        self.name, self._unit, self._prior, self._observed = name, unit, prior, observed
        self._kept: dict[int, _Amounts] = {}

    def score(
        self, need: Need, text: str, candidates: Sequence[Instance], draw: random.Random, now: int
    ) -> Sequence[Score]:
        """See ``Scorer``."""
        seen = observed(need.skill)
        kept = self._kept.get(id(candidates))
        if kept is None or kept.candidates is not candidates or kept.seen is not seen or kept.is_old():
            kept = _Amounts(candidates, seen, self._prior, self._observed)
            if len(self._kept) >= KEPT_MAX:
                self._kept.clear()
            self._kept[id(candidates)] = kept
        else:
            kept.update()
        amounts, values = kept.amounts, list(kept.values)
        return Scores(values, lambda places: {self._unit: [amounts[place] for place in places]})


KEPT_MAX = 64


class _Amounts:
    """The amounts and scores of one list of candidates, brought up to date by what is observed meanwhile."""

    def __init__(
        self,
        candidates: Sequence[Instance],
        seen: Seen,
        prior: Callable[[Card], float | None],
        observed: Callable[[Observed, float | None], float | None],
    ) -> None:
        self.candidates, self.seen, self._prior, self._observed = candidates, seen, prior, observed
        self.amounts = [prior(each.card) for each in candidates]
        self._places = {each.key: place for place, each in enumerate(candidates)}
        self._taken = len(seen.changed)
        for key, known in seen.of.items():
            if (place := self._places.get(key)) is not None:
                self.amounts[place] = observed(known, self.amounts[place])
        some = [amount for amount in self.amounts if amount is not None]
        self._half = median_low(some) if some else 0.0
        self.values = [self._value(amount) for amount in self.amounts]

    def is_old(self) -> bool:
        """Whether so much has changed that the median may be another."""
        return len(self.seen.changed) - self._taken > 10 + len(self.amounts) // 10

    def update(self) -> None:
        for key in self.seen.changed[self._taken :]:
            if (place := self._places.get(key)) is not None:
                amount = self._observed(self.seen.of[key], self._prior(self.candidates[place].card))
                self.amounts[place], self.values[place] = amount, self._value(amount)
        self._taken = len(self.seen.changed)

    def _value(self, amount: float | None) -> float | None:
        if amount is None:
            return None
        if self._half <= 0:
            return 1.0 if amount <= 0 else 0.0
        return self._half / (self._half + amount)


# --- load -------------------------------------------------------------------------------------------------------------


class Load:
    """Least outstanding: calls of this process that are under way, against how many the card says it takes at once."""

    name, version = "load", "1"

    def score(
        self, need: Need, text: str, candidates: Sequence[Instance], draw: random.Random, now: int
    ) -> Sequence[Score]:
        """See ``Scorer``."""
        busy = outstanding.busy()
        if not busy:
            return Scores([1.0] * len(candidates))
        values = [1.0] * len(candidates)
        counts = [busy.get(each.key, 0) for each in candidates]
        for place, count in enumerate(counts):
            if count:
                room = candidates[place].card.concurrency or 1
                values[place] = room / (room + count)
        return Scores(values, lambda places: {"outstanding": [counts[place] or None for place in places]})


# --- performance ------------------------------------------------------------------------------------------------------


class Success:
    """What was seen of each instance for the skill, by Thompson sampling: whoever is new gets tried, too."""

    name, version = "performance", "thompson-1"

    def score(
        self, need: Need, text: str, candidates: Sequence[Instance], draw: random.Random, now: int
    ) -> Sequence[Score]:
        """See ``Scorer``. None for all, as long as nothing is known of anybody."""
        seen, performance = observed(need.skill), performance_now.get()
        if performance is None or not any(each.key in seen.of for each in candidates):
            return Scores([None] * len(candidates))
        keys = [each.key for each in candidates]
        drawn = performance.drawn(keys, need.skill, draw, now)

        def detail(places: Sequence[int]) -> Columns:
            known = [performance.known(keys[place], need.skill, now) for place in places]
            return {
                "drawn": [drawn[place] for place in places],
                "successes": [each.successes for each in known],
                "failures": [each.failures for each in known],
            }

        return Scores(drawn, detail)


for _each in (
    LowIsGood("price", "price_usd", lambda card: card.price_usd, lambda seen, prior: seen.price(prior)),
    LowIsGood("latency", "latency_s", lambda card: card.latency_s, lambda seen, prior: seen.latency(prior)),
    Load(),
    Success(),
):
    scorers[_each.name] = _each
