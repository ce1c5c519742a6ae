"""Errors as people see them: one clear message, no traceback of ours, and the exit code that belongs to it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import cadenza
from cadenza.cli import exit_codes
from cadenza.cli.streams import clean, paint
from cadenza.durable.events import AnyEvent, StepFailed
from cadenza.errors import (
    AgentError,
    AgentRefused,
    CadenzaError,
    DuplicateRun,
    InboxFull,
    OutcomeError,
    RunBlocked,
    StoreError,
    UsageError,
    WorkflowBug,
)

if TYPE_CHECKING:
    from cadenza.durable.failure import Failure

TRACE_LINES = 30
MACHINERY = ("/asyncio/", "/concurrent/futures/")
LIBRARIES = ("/site-packages/", str(Path(contextlib.__file__).parent))
PACKAGE = str(Path(cadenza.__file__).parent)


def code_of(error: CadenzaError) -> int:
    """The exit code of an error that ended a command."""
    match error:
        case UsageError() | InboxFull():
            return exit_codes.USAGE
        case RunBlocked() | WorkflowBug():
            return exit_codes.BLOCKED
        case StoreError():
            return exit_codes.STORE
        case OutcomeError():
            return exit_codes.FAILED
        case _:
            return exit_codes.FAILED


def text_of(error: CadenzaError) -> str:
    """The message, in the command line's own words."""
    if isinstance(error, DuplicateRun):
        return (
            f"the id {error.business_id!r} belongs to run {error.run_id} ({error.status}). Nothing was started. "
            "Use --on-conflict join to get that run, or --on-conflict replace to cancel it and start anew."
        )
    return str(error)


def report(error: CadenzaError) -> int:
    """Print an error on stderr; returns its exit code."""
    sys.stderr.write(f"{paint('error:', 'bold red', sys.stderr)} {clean(text_of(error))}\n")
    for note in getattr(error, "__notes__", ()):
        sys.stderr.write(f"{clean(note)}\n")
    return code_of(error)


def own_trace(error: BaseException) -> str:
    """The traceback of ``error`` and its causes, without frames of the import system or of Cadenza."""
    import traceback

    shown: traceback.TracebackException | None = traceback.TracebackException(type(error), error, error.__traceback__)
    first = shown
    while shown is not None:
        shown.stack[:] = [frame for frame in shown.stack if not _is_foreign(frame.filename)]
        shown = shown.__cause__ or shown.__context__
    lines = "".join(first.format()).rstrip().splitlines()
    if len(lines) > TRACE_LINES:
        lines = [*lines[:6], "  …", *lines[-(TRACE_LINES - 7) :]]
    return "\n".join(lines)


def _is_foreign(file: str) -> bool:
    return file.startswith((PACKAGE, "<frozen importlib")) or "/importlib/" in file


def failure_text(failure: Failure) -> str:
    """A recorded failure with its causes, and the user's own lines on the way to where it was raised.

    What an agent's error says is all that is to be said of its causes, except where the user's code has raised them.
    """
    lines: list[str] = []
    is_told = False
    each: Failure | None = failure
    while each is not None:
        own = _own_lines(each.trace, libraries=not is_told and not _is_of_agent(each))
        if own or not is_told:
            lines += [("caused by " if lines else "") + str(each), *own]
        is_told = is_told or _is_of_agent(each)
        each = each.cause
    return clean("\n".join(lines))


def _is_of_agent(failure: Failure) -> bool:
    return failure.is_a(AgentError, AgentRefused)


def raised_in_step(journal: Iterable[AnyEvent], failure: Failure) -> StepFailed | None:
    """The step's end in which a run's failure began: a run that fails by a StepError has its own lines only."""
    found: StepFailed | None = None
    for event in journal:
        if isinstance(event, StepFailed) and event.failure.trace and str(event.failure) in failure.message:
            found = event
    if found is not None and _is_of_agent(found.failure) and "\n" not in failure_text(found.failure):
        return None  # it has been said already
    return found


def _own_lines(trace: str, *, libraries: bool = True) -> list[str]:
    """A recorded traceback without what lies in Cadenza or in asyncio, and perhaps in any library."""
    foreign = MACHINERY if libraries else (*MACHINERY, *LIBRARIES)
    kept: list[str] = []
    is_own = True
    for line in trace.rstrip().splitlines():
        if line.startswith('  File "'):
            file = line.split('"')[1]
            is_own = not file.startswith(PACKAGE) and not any(each in file for each in foreign)
        if is_own and line.strip("~^ "):
            kept.append(line)
    return kept
