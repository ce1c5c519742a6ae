"""The scorer "semantic": how near what an agent says of itself is to what is wanted.

A skill is one vector: the sum of the vectors of its text and of each of its examples. (On CLINC150, with three examples
a skill, this finds the right one of 150 more often than the nearest example or one text of everything.)
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from cadenza.agents.card import Card, Skill
from cadenza.routing.choice import Score
from cadenza.routing.embedding import LOCAL, Embedder, embedder, unit
from cadenza.routing.need import Need

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cadenza.routing.embedding import Matrix

TEXT_CHARS_MAX = 2_000  # of a request; what it is about is said early
EXAMPLES_MAX = 50  # of a skill


class Carded(Protocol):
    """Whatever has a card: an instance of the registry."""

    @property
    def card(self) -> Card: ...


class SemanticScorer:
    """The cosine of the request and the best fitting skill of each candidate; a negative one counts as 0.

    The index is kept between requests. A card that it has not met is added; cards are immutable, so that a changed one
    is a new one.
    """

    name = "semantic"

    def __init__(self, model: str | Embedder = LOCAL) -> None:
        self._model = model
        self._index: Index | None = None
        self._lock = threading.Lock()

    @property
    def version(self) -> str:
        """Of the way to score and of the embedder."""
        model = self._embedder()
        return f"1 {model.name}@{model.version}"

    def score(
        self, need: Need, text: str, candidates: Sequence[Carded], draw: random.Random, now: int
    ) -> Sequence[Score]:
        """One score for each candidate, to three digits.

        Args:
            text: the text of the input; it counts where the need has no description.

        Raises:
            ModelUnavailable: the embedder cannot be used here.
        """
        wanted = wanted_text(need, text)
        if not wanted or not candidates:
            return [NOTHING] * len(candidates)
        request = self._embedder().embed([wanted])[0]
        if not request.any():
            return [NOTHING] * len(candidates)
        with self._lock:
            index, places = self._places_of(candidates)
            cosines = index.cosines(request, places)
        return [SCORES[thousandths] for thousandths in cosines]

    async def prepare(self, need: Need, text: str, candidates: Sequence[Carded]) -> None:
        """Embed what ``score`` will need. Only for embedders that ask a server: it must not hold the event loop."""
        model = self._embedder()
        if not model.remote:
            return
        texts = [wanted_text(need, text)] if wanted_text(need, text) else []
        for each in candidates:
            texts += [part for skill in texts_of(each.card) for part in skill]
        await asyncio.to_thread(model.embed, texts)

    def _embedder(self) -> Embedder:
        if isinstance(self._model, str):
            self._model = embedder(self._model)
        return self._model

    def _places_of(self, candidates: Sequence[Carded]) -> tuple[Index, list[int]]:
        """The index, with all of their cards in it, and each one's place there."""
        index = self._index
        try:
            if index is not None:
                return index, [index.places[id(each.card)] for each in candidates]
        except KeyError:
            pass
        cards = {id(each.card): each.card for each in candidates}
        unknown = [card for known, card in cards.items() if index is None or known not in index.places]
        if index is not None and len(index.cards) + len(unknown) > 2 * len(cards) + CARDS_KEPT:
            index, unknown = None, [*cards.values()]
        index = self._index = Index.extended(index, unknown, self._embedder())
        return index, [index.places[id(each.card)] for each in candidates]


CARDS_KEPT = 20_000  # beyond twice the candidates: other needs have other candidates
NOTHING = Score(None)
SCORES = [Score(thousandths / 1000, {"cosine": thousandths / 1000}) for thousandths in range(1001)]


@dataclass(frozen=True, slots=True)
class Index:
    """The vectors of the skills of many cards.

    Attributes:
        cards: kept alive, so that the id of one stays its own.
        places: of a card in ``cards``, by its id.
        rows: one a skill; those of a card follow each other.
        starts: where the rows of each card start.
    """

    cards: tuple[Card, ...]
    places: dict[int, int]
    rows: Matrix
    starts: NDArray[np.intp]

    @staticmethod
    def extended(index: Index | None, more: Sequence[Card], model: Embedder) -> Index:
        """The index with more cards."""
        import numpy as np

        skills = [texts_of(card) for card in more]
        texts = list(dict.fromkeys(text for texts in skills for skill in texts for text in skill))
        by_text = dict(zip(texts, model.embed(texts), strict=True))
        made = unit(
            np.stack([np.sum([by_text[text] for text in skill], axis=0) for texts in skills for skill in texts])
        )
        before = len(index.rows) if index else 0
        starts = before + np.cumsum([0, *(len(texts) for texts in skills)])[:-1]
        cards = (*(index.cards if index else ()), *more)
        return Index(
            cards,
            {id(card): place for place, card in enumerate(cards)},
            np.concatenate([index.rows, made]) if index else made,
            np.concatenate([index.starts, starts]) if index else starts,
        )

    def cosines(self, request: Matrix, places: Sequence[int]) -> list[int]:
        """Of the cards at these places, the best skill's cosine in thousandths, from 0 to 1000."""
        import numpy as np

        if len(places) * 4 > len(self.cards):
            best = np.maximum.reduceat(self.rows @ request, self.starts)[places]
        else:
            ends = np.append(self.starts, len(self.rows))
            parts = [range(ends[place], ends[place + 1]) for place in places]
            starts = np.cumsum([0, *map(len, parts)])[:-1]
            best = np.maximum.reduceat(self.rows[[row for part in parts for row in part]] @ request, starts)
        return np.rint(np.clip(best, 0, 1) * 1000).astype(int).tolist()


def wanted_text(need: Need, text: str) -> str:
    """What the request is about, in words."""
    return (need.description or text).strip()[:TEXT_CHARS_MAX]


def texts_of(card: Card) -> list[list[str]]:
    """Of each skill, the texts that say what it is; a card without skills has one of its own."""
    if not card.skills:
        return [[f"{in_words(card.name)}. {card.description}"[:TEXT_CHARS_MAX]]]
    return [
        [said_of(skill), *(each[:TEXT_CHARS_MAX] for each in skill.examples[:EXAMPLES_MAX])] for skill in card.skills
    ]


def said_of(skill: Skill) -> str:
    """The id, the description and the tags as one text."""
    parts = [in_words(skill.id), skill.description, " ".join(map(in_words, skill.tags))]
    return ". ".join(part for part in parts if part)[:TEXT_CHARS_MAX]


def in_words(name: str) -> str:
    """``check_balance`` → ``check balance``."""
    return name.replace("_", " ").replace("-", " ").replace(".", " ")
