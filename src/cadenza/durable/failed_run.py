"""What an error workflow is told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FailedRun:
    """A run that has failed: the input of the workflow that ``@workflow(on_failure=…)`` names.

    Attributes:
        workflow: its full name, ``module:qualname``.
        business_id: the id that it was started with; empty if none.
        error, error_type: what it failed with, for people, and the exception's name (``module:qualname``).
        failed_at: microseconds since 1970.
    """

    run_id: str
    workflow: str
    business_id: str
    error: str
    error_type: str
    failed_at: int
