"""The choice itself: instances in, the table of a choice out. Pure but for what scorers know of the past."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from cadenza.durable import codec
from cadenza.routing.candidates import Candidate, filtered
from cadenza.routing.choice import Choice
from cadenza.routing.lexical import Lexical
from cadenza.routing.need import Need
from cadenza.routing.score import Scores, scorers, weights_of
from cadenza.routing.table import Packed, mean, pack

TEXT_MAX = 4_000
TIE = 1e-9
scorers.setdefault("semantic", Lexical())


def text_of(need: Need, given: Any) -> str:
    """What is to be done, in plain words: the description, else the input's text."""
    if need.description:
        return need.description[:TEXT_MAX]
    if isinstance(given, str):
        return given[:TEXT_MAX]
    return "" if given is None else codec.encode(given, Any, "the input").decode()[:TEXT_MAX]


def chosen(
    need: Need, given: Any, instances: Sequence[Candidate], draw: random.Random, now: int, *, fallback_of: str = ""
) -> Packed:
    """The table of one choice, with its winner.

    Args:
        given: the input, as plain data.
        draw: where equals are drawn from, and samples.
        now: microseconds since 1970.
    """
    weights = weights_of(need)
    candidates, refused = filtered(need, given, instances, now)
    text = text_of(need, given)
    columns = {name: Scores.of(scorers[name].score(need, text, candidates, draw, now)) for name in weights}
    totals = mean(columns, weights, len(candidates))
    order = sorted(range(len(candidates)), key=totals.__getitem__, reverse=True)
    _draw_among_equals(order, totals, draw)
    winner = candidates[order[0]].key if order else ""
    confidence = _confidence(columns, order[0]) if order else None
    reason = "" if winner else "nobody is left after the filters"
    if winner and confidence is not None and confidence < need.abstain_below:
        winner, reason = "", f"the best is sure to {confidence:.2f}, {need.abstain_below:.2f} is needed"
    choice = Choice(
        need, (), winner, "scored/1", weights, {name: scorers[name].version for name in weights},
        confidence, reason, fallback_of,
    )  # fmt: skip
    return pack(
        choice,
        [candidates[index].key for index in order],
        [totals[index] for index in order],
        {name: _ordered(column, order) for name, column in columns.items()},
        refused,
    )


def _draw_among_equals(order: list[int], totals: list[float], draw: random.Random) -> None:
    """Put one of the best, drawn at random, before the others that are as good."""
    if len(order) < 2 or totals[order[0]] - totals[order[1]] > TIE:
        return
    best = totals[order[0]]
    count = next((place for place, index in enumerate(order) if best - totals[index] > TIE), len(order))
    order.insert(0, order.pop(draw.randrange(count)))


def _ordered(column: Scores, order: list[int]) -> Scores:
    values = column.values
    known = {name: [each[index] for index in order] for name, each in column.known.items()}
    return Scores([values[index] for index in order], known)


def _confidence(columns: dict[str, Scores], best: int) -> float | None:
    """What a scorer that can say how sure it is says of the best candidate."""
    for name, column in columns.items():
        ask = getattr(scorers[name], "confidence", None)
        if ask is not None:
            return float(ask(column, best))
    return None
