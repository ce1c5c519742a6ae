"""The explanation of a choice: the whole table, as the journal keeps it.

A choice is the outcome of a step, so that replay never chooses again (design.md, section 6 and rule 10).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cadenza.routing.need import Need


@dataclass(frozen=True, slots=True)
class Score:
    """What one scorer said of one candidate.

    Attributes:
        value: 0 (worst) to 1 (best); None if it has nothing to say, and takes no part.
        known: what it was made of, for people: ``{"successes": 41.2, "failures": 3.1, "drawn": 0.93}``.
    """

    value: float | None
    known: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Row:
    """One instance in the table.

    Attributes:
        key: ``agent@version/instance``.
        refused: why it is no candidate (``placement: it has us, eu is needed``); empty if it is one.
        scores: by the scorer's name.
        total: the weighted mean of its scores.
    """

    key: str
    refused: str = ""
    scores: dict[str, Score] = field(default_factory=dict[str, Score])
    total: float = 0.0


@dataclass(frozen=True, slots=True)
class Choice:
    """Who was chosen, from whom, and why.

    Attributes:
        rows: candidates first, best first; then the refused.
        winner: the key of the chosen instance; empty if nobody was.
        strategy: the name and version of the way of choosing (``scored/1``, ``model/1``, ``named/1``).
        weights: of the scorers, as they were used; ``scorers`` has the version of each.
        confidence: 0 to 1, calibrated where the strategy can; None where it says nothing.
        reason: one sentence for people.
        fallback_of: the key of the instance whose failure led to this choice; empty for a first choice.
        left_out: how many rows more there were than a table keeps.
    """

    need: Need
    rows: tuple[Row, ...]
    winner: str
    strategy: str
    weights: dict[str, float] = field(default_factory=dict[str, float])
    scorers: dict[str, str] = field(default_factory=dict[str, str])
    confidence: float | None = None
    reason: str = ""
    fallback_of: str = ""
    left_out: int = 0
