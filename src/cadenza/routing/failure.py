"""How a choice fails: each error names what was needed, and shows the table with every reason.

CadenzaError
├── NoCandidate       nobody is left after the filters
│   └── Abstained     there are candidates, and none that is sure enough
└── Misplaced         an agent may not see the data after all; it was not called
"""

from __future__ import annotations

from collections.abc import Sequence

from cadenza.errors import CadenzaError

LINES_MAX = 20
NAMED_MAX = 3


class NoCandidate(CadenzaError):
    """Nobody can do what is needed.

    Attributes:
        needed: what was asked for, in words.
        refused: pairs of a reason and the keys of the instances that it refuses.
        hint: what to do about it.
    """

    def __init__(self, needed: str, refused: Sequence[tuple[str, Sequence[str]]] = (), hint: str = "") -> None:
        self.needed, self.hint = needed, hint
        self.refused = [(str(reason), list(keys)) for reason, keys in refused]
        super().__init__(needed, self.refused, hint)

    def __str__(self) -> str:
        if not self.refused:
            return f"no agent can be chosen for {self.needed}: no agent is registered. {self.hint}".rstrip()
        rows = [(_named(keys), reason) for reason, keys in self.refused]
        wide = min(max(len(who) for who, _ in rows), 44)
        table = [f"  {who:<{wide}}  {reason}" for who, reason in rows[:LINES_MAX]]
        if len(rows) > LINES_MAX:
            table.append(f"  … and {len(rows) - LINES_MAX} more reasons")
        hint = self.hint or "Ask for less, or register an agent that fits."
        return "\n".join([f"no agent can be chosen for {self.needed}:", *table, hint])


class Abstained(NoCandidate):
    """There are candidates, and none is sure enough to be right.

    Attributes:
        best: pairs of the best candidates' keys and totals.
        confidence: of the best, 0 to 1; ``needed_confidence`` is what was asked for.
    """

    def __init__(
        self,
        needed: str,
        best: Sequence[tuple[str, float]] = (),
        confidence: float | None = None,
        needed_confidence: float = 0.0,
        why: str = "",
    ) -> None:
        super().__init__(needed)
        self.best = [(str(key), float(total)) for key, total in best]
        self.confidence, self.needed_confidence, self.why = confidence, needed_confidence, why
        self.args = (needed, self.best, confidence, needed_confidence, why)

    def __str__(self) -> str:
        why = self.why or f"the best is sure to {self.confidence or 0:.2f}, {self.needed_confidence:.2f} is needed"
        best = "".join(f"\n  {total:.3f}  {key}" for key, total in self.best)
        return f"no agent is chosen for {self.needed}: {why}.{best}\nSay more exactly what is wanted, or name an agent."


class Misplaced(CadenzaError):
    """An agent may not see the data after all: its card is not what it was when it was chosen. It was not called."""

    def __init__(self, key: str, reason: str) -> None:
        self.key, self.reason = key, reason
        super().__init__(key, reason)

    def __str__(self) -> str:
        return f"{self.key} was not called: {self.reason}"


def _named(keys: Sequence[str]) -> str:
    shown = ", ".join(keys[:NAMED_MAX])
    return shown if len(keys) <= NAMED_MAX else f"{shown} and {len(keys) - NAMED_MAX:,} more"
