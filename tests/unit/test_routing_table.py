"""The table of a choice, as the journal keeps it, and as it comes back."""

import random

from cadenza.agents.card import Card
from cadenza.routing.choose import chosen
from cadenza.routing.instance import Instance
from cadenza.routing.need import Need
from cadenza.routing.table import DETAILED_MAX, unpack


class Named:
    """An agent that is looked at and never called."""

    def __init__(self, card: Card) -> None:
        self.name, self.card = card.name, card


def test_what_scores_were_made_of_is_kept_for_the_best_and_all_come_back() -> None:
    cards = [Card(f"rt-{number}", price_usd=0.01 * (number + 1)) for number in range(DETAILED_MAX + 5)]
    instances = [Instance(Named(card), card) for card in cards]  # type: ignore[arg-type]  # none is called
    choice = unpack(chosen(Need(prefer="cheap"), "hello", instances, random.Random(1), 1))
    assert len(choice.rows) == DETAILED_MAX + 5
    known = ["price_usd" in row.scores["price"].known for row in choice.rows]
    assert known == [True] * DETAILED_MAX + [False] * 5
    assert all(row.scores["price"].value is not None for row in choice.rows)
