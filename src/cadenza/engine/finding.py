"""Looks up one run."""

from __future__ import annotations

from cadenza.engine.filter import Filter
from cadenza.engine.run_id import is_writable
from cadenza.engine.store import RunRow, Store
from cadenza.errors import UnknownName, UsageError


def find_run(store: Store, run_id: str) -> RunRow:
    """A run by its run id, its business id, or the beginning of its run id, if that is the only one of late.

    Raises:
        UnknownName: there is none. UsageError: it is the beginning of several.
    """
    row = store.run(run_id) if is_writable(run_id) else None
    if row is not None:
        return row
    recent = store.runs(Filter(limit=1_000))
    matches = [each for each in recent if run_id and each.run_id.startswith(run_id) and "." not in each.run_id]
    if len(matches) == 1:
        return matches[0]
    if matches:
        first = ", ".join(each.run_id for each in matches[:5])
        raise UsageError(f"{run_id!r} is the beginning of {len(matches)} runs: {first}")
    hint = "List them with: cadenza runs"
    raise UnknownName("run", run_id, [each.run_id for each in recent[:50]], hint)


def is_settled(store: Store, row: RunRow) -> bool:
    """Whether nothing will happen to a run unless somebody does something: it ended, is blocked, or only waits."""
    if row.ended or row.status == "blocked":
        return True
    if row.status != "waiting" or row.wake_at:
        return False
    children = store.runs(Filter(parent=row.run_id, limit=1_000_000))
    return all(is_settled(store, child) for child in children if not child.ended)
