"""Finding instances among thousands: an index of their skills, tags, labels and words."""

from __future__ import annotations

import functools
import math
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import msgspec

from cadenza.agents.agent import AnyAgent
from cadenza.agents.card import Card, Skill
from cadenza.errors import CadenzaError, UnknownName
from cadenza.routing.instance import Instance
from cadenza.routing.schema_fit import misfit

WORD = re.compile(r"[^\W_]+")
STOP = frozenset(
    ("a", "an", "and", "are", "as", "at", "be", "by", "can", "do", "for", "from", "have", "how", "i", "in", "is", "it",
     "me", "my", "of", "on", "or", "please", "that", "the", "this", "to", "was", "what", "with", "you", "your")
)  # fmt: skip
B, K1 = 0.75, 1.2
"""BM25 as usual."""


class Index:
    """Built once for a tuple of cards; positions are those of the instances."""

    def __init__(self, cards: Sequence[Card]) -> None:
        self.cards = cards
        self.skills: defaultdict[str, list[int]] = defaultdict(list)
        self.tags: defaultdict[str, list[int]] = defaultdict(list)
        self.labels: defaultdict[str, list[int]] = defaultdict(list)
        for position, card in enumerate(cards):
            for skill in dict.fromkeys(each.id for each in card.skills):
                self.skills[skill].append(position)
            for tag in dict.fromkeys(tag for each in card.skills for tag in each.tags):
                self.tags[tag].append(position)
            for label in dict.fromkeys(card.placement):
                self.labels[label].append(position)

    def skill(self, id: str) -> Skill:
        """The skill of this id, as the first agent that has it describes it. Raises UnknownName with the nearest."""
        if id not in self.skills:
            raise UnknownName("skill", id, self.skills, "cadenza agents list shows who has which.")
        return next(each for each in self.cards[self.skills[id][0]].skills if each.id == id)

    def labelled(self, label: str) -> list[int]:
        """Raises UnknownName with the nearest labels."""
        if label not in self.labels:
            hint = "Labels are what agents say in placement=(…)."
            raise UnknownName("placement label", label, self.labels, hint)
        return self.labels[label]

    def tagged(self, tags: Collection[str]) -> set[int]:
        """Those that have a skill with all of these tags."""
        found = set[int].intersection(*(set(self.tags.get(tag, ())) for tag in tags))
        if len(tags) == 1:
            return found
        wanted = set(tags)
        return {each for each in found if any(wanted <= set(skill.tags) for skill in self.cards[each].skills)}

    def ranked(self, text: str, among: Iterable[int] | None = None) -> list[int]:
        """Those that have a word of ``text``, best first (BM25)."""
        words, lengths, mean = self._words
        total = len(self.cards)
        scores: defaultdict[int, float] = defaultdict(float)
        allowed = None if among is None else set(among)
        for word in dict.fromkeys(words_of(text)):
            found = words.get(word, {})
            rarity = math.log(1 + (total - len(found) + 0.5) / (len(found) + 0.5))
            for position, count in found.items():
                if allowed is None or position in allowed:
                    length = 1 - B + B * lengths[position] / mean
                    scores[position] += rarity * count * (K1 + 1) / (count + K1 * length)
        return sorted(scores, key=lambda each: (-scores[each], each))

    @functools.cached_property
    def outputs(self) -> list[bytes]:
        """Their output schemas as text: what is found out of one holds for all that are equal."""
        return [msgspec.json.encode(each.output_schema, order="sorted") for each in self.cards]

    @functools.cached_property
    def _words(self) -> tuple[dict[str, dict[int, int]], list[int], float]:
        words: defaultdict[str, dict[int, int]] = defaultdict(dict)
        lengths: list[int] = []
        for position, card in enumerate(self.cards):
            counts = Counter(words_of(text_of(card)))
            lengths.append(sum(counts.values()))
            for word, count in counts.items():
                words[word][position] = count
        return words, lengths, (sum(lengths) / len(lengths) if lengths else 0.0) or 1.0


def text_of(card: Card) -> str:
    """What a card says in words; the name counts twice."""
    parts = [card.name, card.name, card.description, card.purpose]
    for each in card.skills:
        parts += [each.id, each.description, *each.tags, *each.examples]
    return " ".join(parts)


def words_of(text: str) -> list[str]:
    """Its words in lower case, without endings and without those that say nothing."""
    return [_stem(word) for word in WORD.findall(text.lower()) if word not in STOP]


def _stem(word: str) -> str:
    for ending in ("ings", "ing", "ers", "er", "ed", "es", "s", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


class Use:
    """Whether a caller can use what agents give. Each schema is compared once."""

    def __init__(self, index: Index, wanted: dict[str, Any]) -> None:
        self._index, self._wanted = index, wanted
        self._known: dict[bytes, str] = {}

    def problem(self, position: int) -> str:
        """Why the caller cannot use what comes out of it; empty if it can."""
        kind = self._index.outputs[position]
        if kind not in self._known:
            self._known[kind] = misfit(self._index.cards[position].output_schema, self._wanted)
        return self._known[kind]


class Acceptance:
    """Whether agents accept one value: by their own types where there is code, else by their card's schema. Each type
    is asked once."""

    def __init__(self, value: Any) -> None:
        self._value = value
        self._by_type: dict[int, tuple[Any, str]] = {}  # with the type itself, so that its id is not given away

    def problem(self, instance: Instance) -> str:
        """Why it does not accept the value; empty if it does."""
        takes = input_type(instance.agent) if instance.agent is not None else None
        asked = takes if takes is not None else instance.card.input_schema
        if asked is None:
            return "the card does not say what goes in"
        if id(asked) not in self._by_type:
            self._by_type[id(asked)] = (asked, self._ask(asked, typed=takes is not None))
        return self._by_type[id(asked)][1]

    def _ask(self, asked: Any, *, typed: bool) -> str:
        from cadenza.agents.json_schema import type_of
        from cadenza.durable import codec

        try:
            codec.coerce(self._value, asked if typed else type_of(asked, "the card's input schema"), "the input")
        except CadenzaError as error:
            problems: list[tuple[str, str, str]] = getattr(error, "problems", [])
            return "; ".join(f"{field}: {what}" for field, what, _ in problems[:2]) or str(error)
        return ""


def input_type(agent: AnyAgent) -> Any | None:
    """The type of what goes in; None for an agent that has only a schema."""
    types = getattr(agent, "types", None)  # as Carded has it
    return types[0] if types else None
