"""The table of a choice as the journal keeps it: in columns. 500 candidates are a few lists, and not 3,000 objects.

``pack`` and ``unpack`` are each other's inverse, but for what was left out: at most 500 candidates are kept (the best),
and 500 keys of refused ones; how many more there were is kept by reason. What scores were made of is kept of the 20
best.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, cast

from cadenza.routing.choice import Choice, Row, Score
from cadenza.routing.need import Need
from cadenza.routing.score import Scores

KEPT_MAX = 500
DETAILED_MAX = 20
NEED_DEFAULTS = {each.name: getattr(Need(), each.name) for each in dataclasses.fields(Need)}
TUPLES = frozenset(name for name, value in NEED_DEFAULTS.items() if isinstance(value, tuple))

Packed = dict[str, Any]


def need_fields(need: Need) -> dict[str, Any]:
    """What differs from a need of nothing: a field that is added later changes no hash of an older call."""
    return {name: getattr(need, name) for name, usual in NEED_DEFAULTS.items() if getattr(need, name) != usual}


def need_of(fields: Mapping[str, Any]) -> Need:
    """The need of these fields."""
    known: dict[str, Any] = {name: value for name, value in fields.items() if name in NEED_DEFAULTS}
    for name in TUPLES & known.keys():
        known[name] = tuple(known[name])
    return Need(**known)


def mean(columns: Mapping[str, Scores], weights: Mapping[str, float], count: int) -> list[float]:
    """The weighted mean of each candidate's scores; of those that have something to say."""
    whole, constant = 0.0, 0.0
    full: list[tuple[float, list[float]]] = []
    partial: list[tuple[float, Sequence[float | None]]] = []
    for name, column in columns.items():
        weight, values = weights.get(name, 0.0), column.values
        if not weight or values.count(None) == count:
            continue
        if None in values:
            partial.append((weight, values))
            continue
        whole += weight
        if values.count(values[0]) == count:
            constant += weight * cast("float", values[0])
        else:
            full.append((weight, cast("list[float]", values)))
    sums = [constant] * count
    for weight, values in full:
        sums = [total + weight * value for total, value in zip(sums, values, strict=True)]
    if not partial:
        return [total / whole for total in sums] if whole else sums
    shares = [whole] * count
    for weight, values in partial:
        shares = [share if value is None else share + weight for share, value in zip(shares, values, strict=True)]
        sums = [total if value is None else total + weight * value for total, value in zip(sums, values, strict=True)]
    return [total / share if share else 0.0 for total, share in zip(sums, shares, strict=True)]


def pack(
    choice: Choice,
    keys: Sequence[str],
    order: Sequence[int],
    totals: Sequence[float],
    columns: Mapping[str, Scores],
    refused: Mapping[str, Sequence[str]],
) -> Packed:
    """A choice as plain data.

    Args:
        choice: all but its rows.
        keys: of the candidates, best first; at most as many as are kept.
        order: places of all candidates in ``totals`` and ``columns``, best first.
        refused: keys by reason.
    """
    kept = order[:KEPT_MAX]
    packed: Packed = {
        "need": need_fields(choice.need),
        "winner": choice.winner,
        "strategy": choice.strategy,
        "weights": choice.weights,
        "scorers": choice.scorers,
        "keys": keys,
        "totals": _rounded([totals[place] for place in kept]),
        "scores": {name: _column(column, kept) for name, column in columns.items()},
        "refused": _refused(refused),
    }
    for name in ("confidence", "reason", "fallback_of"):
        if (value := getattr(choice, name)) not in (None, ""):
            packed[name] = value
    if len(order) > KEPT_MAX:
        packed["left_out"] = len(order) - KEPT_MAX
    return packed


def _column(column: Scores, kept: Sequence[int]) -> Packed:
    values = column.values
    packed: Packed = {"value": _rounded([values[place] for place in kept])}
    for name, known in column.detail(kept[:DETAILED_MAX]).items():
        packed.setdefault("known", {})[name] = [_brief(value) for value in known]
    return packed


def _rounded(values: list[float | None]) -> list[float | None]:
    if None in values:
        return [None if value is None else int(value * 1e4 + 0.5) / 1e4 for value in values]
    return [int(value * 1e4 + 0.5) / 1e4 for value in cast("list[float]", values)]  # a third of the time of round()


def _brief(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _refused(refused: Mapping[str, Sequence[str]]) -> list[Any]:
    left = KEPT_MAX
    rows: list[Any] = []
    for reason, keys in refused.items():
        shown = list(keys[:left])
        left -= len(shown)
        rows.append([reason, shown, len(keys) - len(shown)] if len(shown) < len(keys) else [reason, shown])
    return rows


def unpack(packed: Packed) -> Choice:
    """The choice that was packed."""
    columns = cast("dict[str, Packed]", packed["scores"])
    rows: list[Row] = []
    for index, (key, total) in enumerate(zip(packed["keys"], packed["totals"], strict=True)):
        scores = {name: _score(column, index) for name, column in columns.items()}
        rows.append(Row(key, "", scores, total))
    for reason, keys, *_ in packed["refused"]:
        rows += [Row(key, reason) for key in keys]
    return Choice(
        need=need_of(packed["need"]),
        rows=tuple(rows),
        winner=packed["winner"],
        strategy=packed["strategy"],
        weights=packed["weights"],
        scorers=packed["scorers"],
        confidence=packed.get("confidence"),
        reason=packed.get("reason", ""),
        fallback_of=packed.get("fallback_of", ""),
        left_out=int(packed.get("left_out", 0)) + sum(int(row[2]) for row in packed["refused"] if len(row) > 2),
    )


def _score(column: Packed, index: int) -> Score:
    """One cell; what it was made of is kept for the best candidates only."""
    columns = cast("dict[str, list[Any]]", column.get("known", {}))
    known = {name: each[index] for name, each in columns.items() if index < len(each)}
    return Score(column["value"][index], {name: value for name, value in known.items() if value is not None})
