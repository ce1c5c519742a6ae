"""How something that ran has ended."""

from __future__ import annotations

from cadenza.errors.root import CadenzaError, Failure


class OutcomeError(CadenzaError):
    """How something that ran has ended."""


class StepError(OutcomeError):
    """A step or agent failed for good: its retries are used up, or the error is not one to retry."""

    def __init__(self, path: str, name: str, attempts: int, failure: Failure) -> None:
        self.path, self.name, self.attempts, self.failure = path, name, attempts, failure
        super().__init__(path, name, attempts)

    def __str__(self) -> str:
        tries = "" if self.attempts <= 1 else f" after {self.attempts} attempts"
        return f"{self.name} failed{tries} at {self.path}: {self.failure}"


class ChildError(OutcomeError):
    """A child run did not complete. ``status`` is failed or cancelled."""

    def __init__(self, path: str, run_id: str, status: str, failure: Failure | None) -> None:
        self.path, self.run_id, self.status, self.failure = path, run_id, status, failure
        super().__init__(path, run_id, status)

    def __str__(self) -> str:
        return f"child run {self.run_id} was {self.status}" + (f": {self.failure}" if self.failure else "")


class RunFailed(OutcomeError):
    """A run ended in failure."""

    def __init__(self, run_id: str, failure: Failure) -> None:
        self.run_id, self.failure = run_id, failure
        super().__init__(run_id)

    def __str__(self) -> str:
        return f"run {self.run_id} failed: {self.failure}"


class RunCancelled(OutcomeError):
    """A run was cancelled."""

    def __init__(self, run_id: str, reason: str) -> None:
        self.run_id, self.reason = run_id, reason
        super().__init__(run_id, reason)

    def __str__(self) -> str:
        return f"run {self.run_id} was cancelled" + (f": {self.reason}" if self.reason else "")


class RunBlocked(OutcomeError):
    """A run waits for a deploy or an operator."""

    def __init__(self, run_id: str, detail: str) -> None:
        self.run_id, self.detail = run_id, detail
        super().__init__(run_id, detail)

    def __str__(self) -> str:
        return f"run {self.run_id} is blocked: {self.detail}\nAfter the fix: cadenza resume {self.run_id}"


class CompensationError(OutcomeError):
    """A run failed, and not everything could be undone. ``undone`` and ``left`` are step paths."""

    def __init__(self, reason: str, undone: list[str], left: list[str]) -> None:
        self.reason, self.undone, self.left = reason, undone, left
        super().__init__(reason, undone, left)

    def __str__(self) -> str:
        return f"{self.reason}; undone: {', '.join(self.undone) or 'nothing'}; NOT undone: {', '.join(self.left)}"


class OutcomeUnknown(OutcomeError):
    """Nobody knows whether an irreversible effect happened. Raised inside a step whose memo is in doubt."""

    def __init__(self, path: str, name: str, reason: str) -> None:
        self.path, self.name, self.reason = path, name, reason
        super().__init__(path, name, reason)

    def __str__(self) -> str:
        return f"whether {self.name} at {self.path} happened is unknown: {self.reason}"


class UpdateFailed(OutcomeError):
    """There is no result: the handler raised (``failure``), or nobody has answered (``reason``)."""

    def __init__(self, run_id: str, name: str, reason: str, failure: Failure | None = None) -> None:
        self.run_id, self.name, self.reason, self.failure = run_id, name, reason, failure
        super().__init__(run_id, name, reason)

    def __str__(self) -> str:
        return f"the update {self.name!r} of run {self.run_id}: {self.reason}"


class StepTimeout(CadenzaError):
    """An attempt took longer than its ``timeout_s``, or was silent for longer than its ``heartbeat_timeout_s``."""
