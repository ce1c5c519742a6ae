"""The semantic scorer of the default install: words in common, weighted by how rare they are (TF-IDF, cosine).

It knows no meaning: "invoice" and "bill" have nothing in common. The extra ``routing`` has one that does.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Sequence

from cadenza.agents.card import Card
from cadenza.routing.choice import Score
from cadenza.routing.instance import Instance
from cadenza.routing.need import Need
from cadenza.routing.score import Scores

WORD = re.compile(r"\w\w+")
ENDINGS = ("ing", "ions", "ion", "ers", "er", "es", "ed", "s", "e")
CARDS_MAX = 50_000


class Lexical:
    """Cosine of the text's words with those of the card; an index of all cards that were ever asked about."""

    name, version = "semantic", "lexical-1"

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._known: dict[int, Card] = {}
        self._postings: dict[str, list[tuple[int, float]]] = {}
        self._weights: dict[str, float] = {}
        self._norms: dict[int, float] = {}

    def score(
        self, need: Need, text: str, candidates: Sequence[Instance], draw: random.Random, now: int
    ) -> Sequence[Score]:
        """See ``Scorer``. The best candidate's is 1; ``known`` has the cosine. None for all without a common word."""
        if not text or not candidates:
            return Scores([None] * len(candidates))
        ids = [id(each.card) for each in candidates]
        known = self._known
        fresh = [each.card for each, number in zip(candidates, ids, strict=True) if number not in known]
        if fresh:
            self._learn(fresh)
        cosines = self._cosines(text)
        raw = [cosines.get(number, 0.0) for number in ids]
        top = max(raw)
        if top <= 0:
            return Scores([None] * len(raw), lambda places: {"cosine": [0.0 for _ in places]})
        return Scores([value / top for value in raw], lambda places: {"cosine": [raw[place] for place in places]})

    def _cosines(self, text: str) -> dict[int, float]:
        sums: dict[int, float] = {}
        norm = 0.0
        for word, count in Counter(words(text)).items():
            weight = self._weights.get(word)
            if weight is None:
                norm += (1 + math.log(count)) ** 2 * math.log(1 + len(self._known)) ** 2
                continue
            mine = (1 + math.log(count)) * weight
            norm += mine * mine
            for number, theirs in self._postings[word]:
                sums[number] = sums.get(number, 0.0) + mine * theirs * weight
        return {number: total / (math.sqrt(norm) * self._norms[number]) for number, total in sums.items()}

    def _learn(self, cards: list[Card]) -> None:
        if len(self._known) + len(cards) > CARDS_MAX:
            self._forget()
        for card in cards:
            if id(card) in self._known:
                continue
            self._known[id(card)] = card
            for word, count in Counter(words(of_card(card))).items():
                self._postings.setdefault(word, []).append((id(card), 1 + math.log(count)))
        total = len(self._known)
        self._weights = {word: math.log(1 + total / len(found)) for word, found in self._postings.items()}
        norms: dict[int, float] = {}
        for word, found in self._postings.items():
            weight = self._weights[word]
            for number, count in found:
                norms[number] = norms.get(number, 0.0) + (count * weight) ** 2
        self._norms = {number: math.sqrt(norm) for number, norm in norms.items()}


def of_card(card: Card) -> str:
    """All that a card says in words."""
    said = [card.name.replace("_", " ").replace("-", " "), card.description]
    for skill in card.skills:
        said += [skill.id.replace("_", " ").replace("-", " "), skill.description, *skill.tags, *skill.examples]
    return " ".join(said)


def words(text: str) -> list[str]:
    """The words of a text without their English endings."""
    return [_stem(word) for word in WORD.findall(text.lower())]


def _stem(word: str) -> str:
    for ending in ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word
