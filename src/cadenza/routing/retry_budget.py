"""A bound on retries as a share of calls: when everything fails, retries do not add a storm to the load. Pure.

Each call pays in ``ratio`` tokens, each retry takes one. In any time there are at most ``ratio`` x calls + ``reserve``
retries. Source: Finagle's RetryBudget (Twitter); gRPC A6, "retry throttling".
"""

from __future__ import annotations

RESERVE = 10.0


class RetryBudget:
    """Of one agent in this process.

    Attributes:
        ratio: retries for each call.
        reserve: tokens at the start, and the most that are ever saved up: an agent that is seldom called may retry too.
        calls, retries, refused: counted since the start.
    """

    def __init__(self, ratio: float, reserve: float = RESERVE) -> None:
        self.ratio, self.reserve = ratio, reserve
        self._tokens = reserve
        self.calls = self.retries = self.refused = 0

    def called(self) -> None:
        """A call that is no retry."""
        self.calls += 1
        self._tokens = min(self.reserve, self._tokens + self.ratio)

    def retry(self) -> bool:
        """Take a token for a retry; False if there is none: the failure is final."""
        if self._tokens < 1.0:
            self.refused += 1
            return False
        self._tokens -= 1.0
        self.retries += 1
        return True
