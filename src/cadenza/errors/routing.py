"""Why a call did not get what it wanted from an agent, or from any."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cadenza.errors.outcome import OutcomeError


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
