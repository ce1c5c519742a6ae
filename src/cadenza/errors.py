"""Every error of Cadenza: one tree, each with fields, each message saying what happened, where, and what to do.

    CadenzaError
    ├── UsageError                 the call is wrong; nothing was written
    │   ├── DefinitionError        a decorator's options contradict each other
    │   ├── UnknownName            no such workflow, agent, step or run
    │   ├── InputInvalid           a value does not fit its type
    │   ├── NotSerialisable        a value cannot be journaled
    │   ├── PayloadTooLarge        a value is over the bound
    │   ├── DuplicateRun           the business id is taken
    │   ├── ImportRefused          an exported run cannot be taken in
    │   └── ModelUnavailable       a model's key, package or file is missing
    ├── WorkflowBug                the code is at fault: the run blocks, keeps its journal and waits for a deploy
    │   ├── Nondeterminism         journal and code disagree
    │   ├── SideEffect             real I/O, threads or clocks in workflow code
    │   ├── Stalled                workflow code did not yield
    │   └── JournalFull            the run needs continue_as_new
    ├── OutcomeError               how something that ran has ended
    │   ├── StepError              a step or agent failed
    │   ├── ChildError             a child run did not complete
    │   ├── RunFailed              a run ended in failure
    │   ├── RunCancelled           a run was cancelled
    │   ├── RunBlocked             a run waits for a deploy or an operator
    │   ├── CompensationError      a run failed and not all of it could be undone
    │   └── OutcomeUnknown         nobody knows whether an irreversible effect happened
    ├── InboxFull                  too many messages wait for one run
    └── StoreError                 the database
        ├── Fenced                 another owner has the run
        ├── StoreUnavailable       disk full, read-only, locked: try again
        │   └── KeyMissing         encrypted with a key that is not given
        ├── StoreCorrupt           the file is damaged
        └── StoreVersion           written by a newer Cadenza, or not by Cadenza

Engine signals derive from BaseException, so that ``except Exception`` in workflow code cannot eat them:
``Evicted`` (the machine leaves memory) and ``ContinuedAsNew`` (the workflow asked for a fresh journal).
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable, Sequence
from typing import Any, Protocol


class Failure(Protocol):
    """A recorded exception (durable/failure.py): ``type`` is ``module:qualname``."""

    @property
    def type(self) -> str: ...
    @property
    def message(self) -> str: ...
    @property
    def short_type(self) -> str: ...
    @property
    def cause(self) -> Failure | None: ...


class CadenzaError(Exception):
    """Root of all errors that Cadenza raises."""


class UsageError(CadenzaError):
    """The call is wrong; nothing was written."""


class DefinitionError(UsageError):
    """A decorator's options contradict each other."""


class UnknownName(UsageError):
    """No ``kind`` has this name; ``known`` are the names that exist."""

    def __init__(self, kind: str, name: str, known: Iterable[str] = (), hint: str = "") -> None:
        self.kind, self.name, self.hint = kind, name, hint
        self.known = sorted(known)
        super().__init__(kind, name)

    @property
    def nearest(self) -> list[str]:
        """Up to three known names that look like the given one, best first."""
        tails = {known.rpartition(":")[2]: known for known in self.known}
        names = difflib.get_close_matches(self.name, self.known, n=3, cutoff=0.5)
        tail = difflib.get_close_matches(self.name.rpartition(":")[2], list(tails), n=3, cutoff=0.5)
        return list(dict.fromkeys([*names, *(tails[each] for each in tail)]))[:3]

    def __str__(self) -> str:
        message = f"no {self.kind} is named {self.name!r}."
        if self.nearest:
            message += f" Did you mean {' or '.join(map(repr, self.nearest))}?"
        elif self.known:
            message += f" Known: {', '.join(self.known[:8])}{' …' if len(self.known) > 8 else ''}."
        return f"{message} {self.hint}".rstrip()


class InputInvalid(UsageError):
    """A value does not fit its type. ``problems`` are rows of (field, problem, given)."""

    def __init__(self, what: str, problems: Sequence[tuple[str, str, str]]) -> None:
        self.what, self.problems = what, list(problems)
        super().__init__(what, self.problems)

    def __str__(self) -> str:
        rows = [("field", "problem", "given"), *self.problems]
        widths = [max(len(row[column]) for row in rows) for column in range(2)]
        table = "\n".join(f"  {f:<{widths[0]}}  {p:<{widths[1]}}  {g}".rstrip() for f, p, g in rows)
        return f"{self.what} does not fit its type:\n{table}"


class NotSerialisable(UsageError):
    """A value cannot be written as JSON. ``path`` leads to the part that cannot."""

    def __init__(self, what: str, path: str, kind: str, hint: str = "") -> None:
        self.what, self.path, self.kind = what, path, kind
        self.hint = hint or "Return plain data, a dataclass or a pydantic model, and annotate it."
        super().__init__(what, path, kind)

    def __str__(self) -> str:
        return f"{self.what} cannot be journaled: {self.path} is a {self.kind}. {self.hint}"


class PayloadTooLarge(UsageError):
    """A value is over the bound."""

    def __init__(self, what: str, size_bytes: int, bytes_max: int) -> None:
        self.what, self.size_bytes, self.bytes_max = what, size_bytes, bytes_max
        super().__init__(what, size_bytes, bytes_max)

    def __str__(self) -> str:
        return (
            f"{self.what} is {self.size_bytes:,} bytes; at most {self.bytes_max:,} are journaled. "
            "Store it in a file or an object store inside the step, and return where it is."
        )


class ModelUnavailable(UsageError):
    """A model cannot be used here: its key, its package or its file is missing. ``name`` is the model's full name."""

    def __init__(self, name: str, problem: str, hint: str) -> None:
        self.name, self.problem, self.hint = name, problem, hint
        super().__init__(name, problem, hint)

    def __str__(self) -> str:
        return f"the model {self.name!r} cannot be used: {self.problem}. {self.hint}"


class DuplicateRun(UsageError):
    """The business id belongs to another run."""

    def __init__(self, business_id: str, run_id: str, status: str) -> None:
        self.business_id, self.run_id, self.status = business_id, run_id, status
        super().__init__(business_id, run_id, status)

    def __str__(self) -> str:
        return (
            f"the id {self.business_id!r} belongs to run {self.run_id} ({self.status}). Nothing was started. "
            'Use on_conflict="join" to get that run, or "replace" to cancel it and start anew.'
        )


class ImportRefused(UsageError):
    """An exported run cannot be taken in. ``where`` is the file and its line, or the run."""

    def __init__(self, where: str, problem: str, hint: str = "") -> None:
        self.where, self.problem, self.hint = where, problem, hint
        super().__init__(f"{where}: {problem}. Nothing was imported. {hint}".rstrip())


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


class InboxFull(CadenzaError):
    """Too many messages wait for one run."""

    def __init__(self, run_id: str, inbox_max: int) -> None:
        self.run_id, self.inbox_max = run_id, inbox_max
        super().__init__(run_id, inbox_max)

    def __str__(self) -> str:
        return f"{self.inbox_max:,} messages already wait for run {self.run_id}; send again when it has read some."


class StoreError(CadenzaError):
    """The database."""


class Fenced(StoreError):
    """A write came from an owner that no longer has the run. Nothing of it was written."""

    def __init__(self, run: object, epoch: int, detail: str) -> None:
        self.run, self.epoch, self.detail = run, epoch, detail
        super().__init__(run, epoch, detail)

    def __str__(self) -> str:
        return f"run {self.run} is no longer owned in epoch {self.epoch}: {self.detail}"


DISK_FULL, MAKE_ROOM = "the disk is full", "Free some space and start again: runs go on where they were."
READ_ONLY, WRITABLE = "it is read-only", "Give this user the right to write to it and to its folder."


class StoreUnavailable(StoreError):
    """The database cannot be used now (disk full, read-only, locked). What was accepted before is safe."""

    def __init__(self, where: str, problem: str, hint: str) -> None:
        self.where, self.problem, self.hint = where, problem, hint
        super().__init__(where, problem, hint)

    @classmethod
    def because(cls, error: OSError, where: str) -> StoreUnavailable:
        """What the operating system's ``error`` means for the database at ``where``."""
        where = str(error.filename or where)
        match error.errno:
            case errno.ENOSPC | errno.EDQUOT:
                return cls(where, DISK_FULL, MAKE_ROOM)
            case errno.EACCES | errno.EPERM | errno.EROFS:
                return cls(where, READ_ONLY, WRITABLE)
            case _:
                problem = (error.strerror or str(error)).lower()
                return cls(where, problem, "Check the path and the disk, then start again.")

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}. Nothing that was accepted is lost. {self.hint}"


class KeyMissing(StoreUnavailable):
    """The file is encrypted with a key that is not given."""


class StoreCorrupt(StoreError):
    """The file is damaged, or no database at all."""

    def __init__(self, where: str, problem: str, hint: str = "") -> None:
        self.where, self.problem = where, problem
        self.hint = hint or (
            "Stop its workers and copy the file. Then restore a backup, or save what can be read: "
            f"sqlite3 {where} .recover | sqlite3 recovered.db"
        )
        super().__init__(where, problem)

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}. {self.hint}"


class StoreVersion(StoreError):
    """The file was written by a newer Cadenza, or by another program."""

    def __init__(self, where: str, problem: str) -> None:
        self.where, self.problem = where, problem
        super().__init__(f"{where}: {problem}")


class Evicted(BaseException):
    """The machine leaves memory; raised at every await of workflow code until its tasks are gone."""


class ContinuedAsNew(BaseException):
    """The workflow asked to go on with a fresh journal. ``state`` is the next generation's input."""

    def __init__(self, state: Any) -> None:
        self.state = state
        super().__init__()
