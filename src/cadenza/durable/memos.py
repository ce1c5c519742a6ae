"""Sub-results that a step's outcome refers to instead of holding them again.

Workflow code gets such an outcome whole: ``StepFunction.restore`` puts it together, when it is delivered, from the
memos of the step's path and the arguments of the call. Both are in the journal, or follow from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cadenza.durable import commands, events

if TYPE_CHECKING:
    from cadenza.durable.machine import Machine


class Memos:
    """Of open steps that restore their outcomes, and of no others: key to JSON, by path."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._saved: dict[str, dict[str, bytes]] = {}

    def note(self, event: events.AnyEvent) -> None:
        """Take a record of the journal, in replay."""
        if isinstance(event, events.MemoSaved):
            if self._restores(event.path):
                self._saved.setdefault(event.path, {})[event.key] = event.value
        elif isinstance(event, events.MemosDiscarded) and event.path in self._saved:
            saved = self._saved[event.path]
            for later in list(saved)[list(saved).index(event.key) :]:
                del saved[later]

    def keep(self, path: str, saved: Mapping[str, events.MemoSaved]) -> None:
        """Take what the ledger has of a step that is about to end, live."""
        self._saved[path] = {key: each.value for key, each in saved.items()}

    def take(self, path: str) -> dict[str, bytes]:
        """Those of a step that has ended."""
        return self._saved.pop(path, {})

    def _restores(self, path: str) -> bool:
        future = self._machine.open.get(path)
        command: Any = None if future is None else future.command
        return isinstance(command, commands.RunStep) and command.step.restore is not None
