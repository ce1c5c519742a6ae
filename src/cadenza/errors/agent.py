"""Why an agent could not go on: one message that says which agent, what of it, and how to mend it."""

from __future__ import annotations

from cadenza.errors.outcome import OutcomeError
from cadenza.errors.root import CadenzaError


class AgentError(CadenzaError):
    """An agent's turn failed. ``part`` is what of it: the model, a tool, the output. It may help to try again."""

    def __init__(self, agent: str, part: str, problem: str, hint: str = "") -> None:
        self.agent, self.part, self.problem, self.hint = agent, part, problem, hint
        super().__init__(agent, part, problem, hint)

    def __str__(self) -> str:
        return f"agent {self.agent!r}, {self.part}: {self.problem.rstrip('.')}. {self.hint}".rstrip()


class AgentRefused(AgentError):
    """An agent's turn failed for a reason that does not pass: to try again would only cost."""


class PeerError(OutcomeError):
    """``agent`` is its name, ``problem`` what happened, ``hint`` what to do."""

    def __init__(self, agent: str, problem: str, hint: str = "") -> None:
        self.agent, self.problem, self.hint = agent, problem, hint
        super().__init__(agent, problem, hint)

    def __str__(self) -> str:
        return f"{self.agent}: {self.problem}" + (f". {self.hint}" if self.hint else "")


class PeerFailed(PeerError):
    """It failed for good: no retry would help."""


class PeerRefused(PeerFailed):
    """It refused, and nothing has happened. ``status`` is the HTTP status, 0 if it was never asked."""

    def __init__(self, agent: str, problem: str, hint: str = "", status: int = 0) -> None:
        super().__init__(agent, problem, hint)
        self.status = status
        self.args = (agent, problem, hint, status)


class PeerUnavailable(PeerError):
    """It cannot do it now. ``retry_after_s`` is how long it asks to be left alone, 0 if it does not say."""

    def __init__(self, agent: str, problem: str, hint: str = "", retry_after_s: float = 0.0) -> None:
        super().__init__(agent, problem, hint)
        self.retry_after_s = retry_after_s
        self.args = (agent, problem, hint, retry_after_s)
