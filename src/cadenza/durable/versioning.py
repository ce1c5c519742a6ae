"""Edits in place: ``ctx.patched(id)`` tells runs that passed a point on old code from those that have not reached
it."""

from __future__ import annotations

from collections.abc import Iterable

ENGINE_FLAGS: tuple[str, ...] = ()
"""Scheduling rules that this engine adds to those of schema 1; a run keeps the flags that it started with."""


class Patches:
    """Decides ``patched(id)``, the same way in every replay.

    New code is taken if the journal says so, or if the run has not been here before: that is, if no event is left to
    replay (what one activation records is one append, so that all of its decisions are there or none). The first
    decision for an id holds for the generation.
    """

    def __init__(self) -> None:
        self.journaled: set[str] = set()
        self._decided: dict[str, bool] = {}

    def expect(self, ids: Iterable[str]) -> None:
        """Ids that the journal to be replayed holds."""
        self.journaled.update(ids)

    def decline(self, id: str) -> bool:
        """Take old code for ``id`` from here on, unless it was decided before; what was decided."""
        return self._decided.setdefault(id, False)

    def decide(self, id: str, replaying: bool) -> tuple[bool, bool]:
        """Whether ``id`` is patched here, and whether that is news to the journal."""
        if id in self._decided:
            return self._decided[id], False
        patched = id in self.journaled or not replaying
        self._decided[id] = patched
        return patched, patched and id not in self.journaled
