"""The choice itself: instances in, the table of a choice out. Pure but for what scorers know of the past."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from cadenza.durable import codec
from cadenza.routing.balance import outstanding
from cadenza.routing.candidates import filtered
from cadenza.routing.choice import Choice
from cadenza.routing.instance import Instance
from cadenza.routing.lexical import Lexical
from cadenza.routing.model_router import NONE, OFFERED_MAX, Pick, offer
from cadenza.routing.need import Need
from cadenza.routing.score import Scores, scorers, weights_of
from cadenza.routing.table import KEPT_MAX, Packed, mean, pack

TEXT_MAX = 4_000
TIE = 1e-9
NO_LIMITS: Mapping[str, str] = {}
scorers.setdefault("semantic", Lexical())


def text_of(need: Need, given: Any) -> str:
    """What is to be done, in plain words: the description, else the input's text."""
    if need.description:
        return need.description[:TEXT_MAX]
    if isinstance(given, str):
        return given[:TEXT_MAX]
    return "" if given is None else codec.encode(given, Any, "the input").decode()[:TEXT_MAX]


def chosen(
    need: Need,
    given: Any,
    instances: Sequence[Instance],
    draw: random.Random,
    now: int,
    *,
    limits: Mapping[str, str] = NO_LIMITS,
    fallback_of: str = "",
    pick: Pick | None = None,
) -> Packed:
    """The table of one choice, with its winner.

    Args:
        given: the input, as plain data.
        draw: where equals are drawn from, and samples.
        now: microseconds since 1970.
        limits: see ``filtered``.
        pick: the answer of the agent that routes, where the need names one and it has been asked.
    """
    weights = weights_of(need)
    candidates, refused = filtered(need, given, instances, limits)
    text = text_of(need, given)
    columns = {name: Scores.of(scorers[name].score(need, text, candidates, draw, now)) for name in weights}
    totals = mean(columns, weights, len(candidates))
    order = _best_first(totals)
    _draw_among_equals(order, totals, candidates, draw)
    if pick is not None:
        order.sort(key=lambda index: candidates[index].key != pick.key)
    is_named = bool(need.skill or need.agent) and not need.abstain_below
    confidence = confidence_of(columns, order[0]) if order and not is_named else None
    best = candidates[order[0]].key if order else ""
    winner, reason = _decided(need, best, confidence, pick)
    named = need == Need(agent=need.agent, exclude=need.exclude)
    strategy = "model/1" if need.router else "named/1" if named else "scored/1"
    versions = {name: scorers[name].version for name in weights}
    choice = Choice(need, (), winner, strategy, weights, versions, confidence, reason, fallback_of)
    packed = pack(choice, [candidates[index].key for index in order[:KEPT_MAX]], order, totals, columns, refused)
    if need.router and pick is None:
        packed["offered"] = [[candidates[index].key, offer(candidates[index].card)] for index in order[:OFFERED_MAX]]
    return packed


def _decided(need: Need, best: str, confidence: float | None, pick: Pick | None) -> tuple[str, str]:
    """The winner, if there is one, and a sentence for people."""
    if not best:
        return "", "nobody is left after the filters"
    if need.router:
        if pick is None:
            return "", f"offered to {need.router}"
        if pick.key == NONE:
            return "", f"{need.router} says that nobody fits: {pick.reason}".rstrip(": ")
        if pick.key != best:
            return "", f"{need.router} answered {pick.key[:100]!r}, which is the key of no candidate"
        return best, f"{need.router} says: {pick.reason}" if pick.reason else f"{need.router} chose it"
    if need.abstain_below and (confidence is None or confidence < need.abstain_below):
        sure = "nothing says how sure the best is" if confidence is None else f"the best is sure to {confidence:.2f}"
        return "", f"{sure}, {need.abstain_below:.2f} is needed"
    return best, ""


def _best_first(totals: list[float]) -> list[int]:
    """Places by their totals; beyond those that a table keeps, in no order."""
    places = range(len(totals))
    if len(totals) <= 2 * KEPT_MAX:
        return sorted(places, key=totals.__getitem__, reverse=True)
    bound = sorted(totals, reverse=True)[KEPT_MAX]
    best = sorted((place for place in places if totals[place] >= bound), key=totals.__getitem__, reverse=True)
    return [*best, *(place for place in places if totals[place] < bound)]


def _draw_among_equals(
    order: list[int], totals: list[float], candidates: Sequence[Instance], draw: random.Random
) -> None:
    """Put one of the best before the others that are as good: the less busy one of two that are drawn."""
    if len(order) < 2 or totals[order[0]] - totals[order[1]] > TIE:
        return
    best = totals[order[0]]
    count = next((place for place, index in enumerate(order) if best - totals[index] > TIE), len(order))
    equals = {candidates[index].key: place for place, index in enumerate(order[:count])}
    rates = [float(candidates[index].card.concurrency or 1) for index in order[:count]]
    order.insert(0, order.pop(equals[outstanding.two([*equals], rates, draw)]))


def confidence_of(columns: Mapping[str, Scores], best: int) -> float | None:
    """How sure the scorers are of a candidate: calibrated where one of them is, else its cosine; None where none is."""
    said = [column.detail([best]) for column in columns.values()]
    for name in ("confidence", "cosine"):
        for known in said:
            if name in known and known[name][0] is not None:
                return round(float(known[name][0]), 4)
    return None
