"""The live feed: what happens now, for those who watch. May be lost, is never needed; the journal is the truth.

A step is told as completed when it has returned; it counts when its outcome is on disk, a moment later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec

State = Literal[
    "started", "completed", "failed", "retrying", "cancelled", "progress", "replayed", "asked", "answered",
    "parked", "resumed", "blocked", "warning", "unknown",
]  # fmt: skip


class Live(msgspec.Struct, frozen=True):
    """One notice. ``kind`` is run, step, ask, timer, message or child; ``at`` is microseconds since 1970."""

    run_id: str
    path: str
    kind: str
    name: str
    state: State
    at: int
    detail: Any = None


class Feed:
    """Observers of an engine; they are called on its loop and must not block."""

    def __init__(self) -> None:
        self._observers: list[Callable[[Live], None]] = []

    def observe(self, observer: Callable[[Live], None]) -> Callable[[], None]:
        """Add an observer; returns the function that removes it."""
        self._observers.append(observer)
        return lambda: self._observers.remove(observer)

    @property
    def watched(self) -> bool:
        return bool(self._observers)

    def tell(self, live: Live) -> None:
        for observer in list(self._observers):
            observer(live)
