"""What all errors derive from, and what a recorded one looks like."""

from __future__ import annotations

from typing import Protocol


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
