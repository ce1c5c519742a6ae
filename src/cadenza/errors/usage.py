"""The call is wrong; nothing was written."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from cadenza.errors.root import CadenzaError, Failure


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


class AgentFileInvalid(UsageError):
    """A file that defines an agent. ``problems`` are rows of (line, problem); line 0 is the whole file."""

    def __init__(self, file: str, problems: Sequence[tuple[int, str]]) -> None:
        self.file, self.problems = file, list(problems)
        super().__init__(file, self.problems)

    def __str__(self) -> str:
        return "\n".join(f"{self.file}{f':{line}' if line else ''}: {problem}" for line, problem in self.problems)


class UserCodeError(UsageError):
    """The user's module could not be imported. ``trace`` shows their own lines."""

    def __init__(self, what: str, trace: str, hint: str = "") -> None:
        self.what, self.trace, self.hint = what, trace, hint
        super().__init__(what)

    def __str__(self) -> str:
        return "\n".join(part for part in (f"{self.what}:", self.trace, self.hint) if part)


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


class UpdateRefused(UsageError):
    """A run did not accept an update; nothing has happened. ``failure`` is what its validator raised."""

    def __init__(self, run_id: str, name: str, failure: Failure | None) -> None:
        self.run_id, self.name, self.failure = run_id, name, failure
        super().__init__(run_id, name)

    def __str__(self) -> str:
        why = self.failure.message if self.failure is not None else "it gives no reason"
        return f"run {self.run_id} refuses the update {self.name!r}: {why}"


class ImportRefused(UsageError):
    """An exported run cannot be taken in. ``where`` is the file and its line, or the run."""

    def __init__(self, where: str, problem: str, hint: str = "") -> None:
        self.where, self.problem, self.hint = where, problem, hint
        super().__init__(f"{where}: {problem}. Nothing was imported. {hint}".rstrip())


class CardInvalid(UsageError):
    """An agent's card cannot be read. ``problems`` are what is wrong in it, or the one why there is none."""

    def __init__(self, source: str, problems: Sequence[str], hint: str = "") -> None:
        self.source, self.problems, self.hint = source, list(problems), hint
        super().__init__(source, self.problems, hint)

    def __str__(self) -> str:
        said = self.problems[0] if len(self.problems) == 1 else "".join(f"\n  {each}" for each in self.problems)
        return f"{self.source}: no agent card can be read: {said}" + (f". {self.hint}" if self.hint else "")
