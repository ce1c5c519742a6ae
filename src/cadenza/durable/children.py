"""Child runs as their parent sees them: who waits for which, and which ends nobody has read yet.

Started children outlive the parent's generation: an end that was not read is carried to the next one (rule 2).
"""

from __future__ import annotations

from collections.abc import Iterable

from cadenza.durable import codec
from cadenza.durable.events import ChildEnded
from cadenza.durable.path import idempotency_key


def child_run_id(parent: str, generation: int, path: str) -> str:
    """The run id of the child that ``parent`` starts at ``path``: the same in every replay."""
    return f"{parent}.{codec.fingerprint(idempotency_key(parent, generation, path), 'the path')[:8]}"


class Children:
    """By run id. An end that was read is not carried any further, so what is carried stays bounded."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[str]] = {}
        self._ended: dict[str, ChildEnded] = {}
        self._read: set[str] = set()

    def restore(self, ended: Iterable[ChildEnded]) -> None:
        """Take over what the generation before has not read."""
        self._ended = {child.run_id: child for child in ended}

    def unread(self) -> tuple[ChildEnded, ...]:
        """What the next generation takes along."""
        return tuple(child for run_id, child in self._ended.items() if run_id not in self._read)

    def wait(self, run_id: str, path: str) -> ChildEnded | None:
        """The command at ``path`` waits for this child: its end, if it has ended already."""
        ended = self._ended.get(run_id)
        if ended is None:
            self._waiting.setdefault(run_id, []).append(path)
        return ended

    def rename(self, old: str, new: str) -> None:
        """Whoever waits for the child ``old`` waits for ``new`` instead."""
        if old in self._waiting:
            self._waiting[new] = self._waiting.pop(old)

    def end(self, event: ChildEnded) -> list[str]:
        """A child has ended: the paths that wait for it; none if a later generation has yet to ask."""
        self._ended[event.run_id] = event
        return self._waiting.pop(event.run_id, [])

    def read(self, run_id: str) -> None:
        """Workflow code has seen the end of this child."""
        self._read.add(run_id)
