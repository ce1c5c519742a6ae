"""Exceptions as records and back: type name, message, details and cause chain; never pickle."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from typing import Any, cast

import msgspec

MESSAGE_MAX, TRACE_MAX, CAUSES_MAX = 4_000, 4_000, 8


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """An exception, written down.

    Attributes:
        type: ``module:qualname`` of the exception's class.
        message: ``str(exception)``, at most 4,000 characters.
        details: its ``args`` as JSON (bytes), empty where they are not plain data.
        trace: the last frames of the traceback, for people.
        cause: what it was raised from.
    """

    type: str
    message: str
    details: bytes = b""
    trace: str = ""
    cause: Failure | None = None

    @classmethod
    def of(cls, error: BaseException, depth: int = 0) -> Failure:
        """Record ``error`` with its cause chain (at most eight deep)."""
        cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if cause is None:
            cause = next(iter(getattr(error, "exceptions", ())), None)  # a group's first
        try:
            details = msgspec.json.encode(error.args)
        except (TypeError, ValueError, OverflowError, msgspec.MsgspecError):
            details = b""
        return cls(
            type=f"{type(error).__module__}:{type(error).__qualname__}",
            message=_text(error)[:MESSAGE_MAX],
            details=details,
            trace="".join(traceback.format_tb(error.__traceback__, limit=-4))[-TRACE_MAX:],
            cause=cls.of(cause, depth + 1) if cause is not None and depth < CAUSES_MAX else None,
        )

    def rebuild(self, declared: Sequence[type[Exception]]) -> Exception | None:
        """The original exception, if its class is among ``declared`` and takes back its own arguments."""
        for kind in declared:
            if f"{kind.__module__}:{kind.__qualname__}" != self.type:
                continue
            arguments = cast("list[Any]", msgspec.json.decode(self.details)) if self.details else [self.message]
            try:
                return kind(*arguments)
            except (TypeError, ValueError):
                error = kind.__new__(kind)
                error.args = tuple(arguments)
                return error
        return None

    def is_a(self, *kinds: type[BaseException]) -> bool:
        """Whether the recorded type is exactly one of ``kinds``."""
        return any(f"{kind.__module__}:{kind.__qualname__}" == self.type for kind in kinds)

    @property
    def short_type(self) -> str:
        """The class's name without its module."""
        return self.type.rpartition(":")[2]

    def __str__(self) -> str:
        return f"{self.short_type}: {self.message}" if self.message else self.short_type


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as inner:  # a broken __str__ must not hide the error it belongs to
        return f"(its message could not be made: {type(inner).__name__})"
