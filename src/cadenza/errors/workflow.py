"""Workflow code is at fault, and what ends a run from within."""

from __future__ import annotations

from typing import Any

from cadenza.errors.root import CadenzaError


class WorkflowBug(CadenzaError):
    """Workflow code is at fault. The run blocks, keeps its journal, and waits for a deploy."""


class Nondeterminism(WorkflowBug):
    """Journal and code disagree, at ``path``. ``expected`` is what the journal holds, ``found`` what the code did."""

    def __init__(self, expected: str, found: str, hint: str = "", path: str = "") -> None:
        self.expected, self.found, self.path = expected, found, path
        self.hint = hint or (
            "The workflow's code changed under a run that was already on its way, or it reads something outside of "
            'Context. Deploy the old code again, guard the change with ctx.patched("…"), or fork the run.'
        )
        super().__init__(expected, found)

    def __str__(self) -> str:
        return f"the journal and the code disagree.\n  expected: {self.expected}\n  found:    {self.found}\n{self.hint}"


class SideEffect(WorkflowBug):
    """Workflow code did something real. ``where`` is file:line, ``instead`` what to use."""

    def __init__(self, what: str, where: str, instead: str) -> None:
        self.what, self.where, self.instead = what, where, instead
        super().__init__(what, where, instead)

    def __str__(self) -> str:
        return f"workflow code called {self.what} at {self.where}. A workflow is replayed; {self.instead}."


class Stalled(WorkflowBug):
    """Workflow code ran without yielding."""

    def __init__(self, where: str, limit: str) -> None:
        self.where, self.limit = where, limit
        super().__init__(where, limit)

    def __str__(self) -> str:
        return (
            f"workflow code did not yield for {self.limit}; it was at {self.where}. "
            "Await something in the loop, or move the computation into a step."
        )


class JournalFull(WorkflowBug):
    """The run's journal reached its bound."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(what)

    def __str__(self) -> str:
        return (
            f"the journal holds {self.what}, its bound. Call ctx.continue_as_new(state) in the workflow's loop, or "
            "raise journal_events_max / journal_bytes_max in EngineOptions; then resume the run. Nothing was lost."
        )


class Evicted(BaseException):
    """The machine leaves memory; raised at every await of workflow code until its tasks are gone."""


class ContinuedAsNew(BaseException):
    """The workflow asked to go on with a fresh journal. ``state`` is the next generation's input."""

    def __init__(self, state: Any) -> None:
        self.state = state
        super().__init__()
