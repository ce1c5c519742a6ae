"""Why a call did not get what it wanted from an agent, or from any."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cadenza.errors.outcome import OutcomeError

LINES_MAX = 20
NAMED_MAX = 3


class NeverBegan(OutcomeError):
    """The agent was not asked. ``instance`` is its key, ``retry_after_s`` when it may help to try again."""

    def __init__(self, instance: str, reason: str, retry_after_s: float = 0.0) -> None:
        self.instance, self.reason, self.retry_after_s = instance, reason, retry_after_s
        super().__init__(instance, reason, retry_after_s)

    def __str__(self) -> str:
        again = f" Try again in {self.retry_after_s:.3g} s." if self.retry_after_s > 0 else ""
        return f"{self.instance} was not asked: {self.reason}.{again}"


class CircuitOpen(NeverBegan):
    """Its circuit breaker is open, or lets through only the one probe that is under way."""


class Overloaded(NeverBegan):
    """It is at its limit (calls at once, requests or tokens a minute), and so is the queue before it."""


class RetriesSpent(OutcomeError):
    """It failed, and is not tried again: retries of the agent are at their share of its calls."""

    def __init__(self, instance: str, ratio: float, problem: str) -> None:
        self.instance, self.ratio, self.problem = instance, ratio, problem
        super().__init__(instance, ratio, problem)

    def __str__(self) -> str:
        return (
            f"{self.instance} failed, and is not tried again: retries are at their bound of {self.ratio:.0%} of its "
            f"calls. {self.problem}"
        )


class OutputRejected(OutcomeError):
    """An agent's output does not pass. ``problems`` are those of the last round, ``rounds`` how often it was asked."""

    def __init__(self, agent: str, rounds: int, problems: Sequence[str]) -> None:
        self.agent, self.rounds, self.problems = agent, rounds, list(problems)
        super().__init__(agent, rounds, self.problems)

    def __str__(self) -> str:
        times = "once" if self.rounds == 1 else f"{self.rounds} times"
        shown = "; ".join(self.problems[:5]) + (" …" if len(self.problems) > 5 else "")
        return f"the output of {self.agent}, which was asked {times}, is not good enough: {shown}"


class Exhausted(OutcomeError):
    """Every level has failed. ``tried`` are rows of (who, why not)."""

    def __init__(self, agent: str, tried: Sequence[Sequence[Any]], letter: str = "") -> None:
        self.agent, self.tried, self.letter = agent, [(str(who), str(why)) for who, why in tried], letter
        super().__init__(agent, self.tried, letter)

    def __str__(self) -> str:
        width = max((len(who) for who, _ in self.tried), default=0)
        table = "\n".join(f"  {who:<{width}}  {why}" for who, why in self.tried)
        kept = f"\nIt is kept: cadenza agents dead-letters redo {self.letter}" if self.letter else ""
        return f"nobody could do it in place of {self.agent}:\n{table}{kept}"


class Misplaced(NeverBegan):
    """An agent may not see the data after all: its card is not what it was when it was chosen."""


class NoCandidate(OutcomeError):
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


def _named(keys: Sequence[str]) -> str:
    shown = ", ".join(keys[:NAMED_MAX])
    return shown if len(keys) <= NAMED_MAX else f"{shown} and {len(keys) - NAMED_MAX:,} more"
