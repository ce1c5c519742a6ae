"""Irreversible work that a run has done, and that another one would do again."""

from __future__ import annotations

from collections.abc import Container, Iterable

from cadenza.durable import events
from cadenza.durable.path import UNDO
from cadenza.engine.splice import Spliced
from cadenza.engine.store import Store


def done_again(
    store: Store, journal: list[events.AnyEvent], spliced: Spliced, continued: Container[str] = ()
) -> list[str]:
    """Paths of irreversible steps and tool calls of a run and its children that a new run would do once more.

    Children at the paths ``continued`` are left out.

    It is what was begun, may have happened, and is not in the new run's journal. Whether the new run comes to it
    depends on what it does; that it might is enough.
    """
    settled = {getattr(each, "path", "") for each in spliced.history if isinstance(each, events.Outcome)}
    settled |= spliced.left
    saved = {(each.path, each.key) for each in spliced.history if isinstance(each, events.MemoSaved)}
    found = [
        path if not key else f"{path} ({key})"
        for path, key in _happened(journal)
        if path not in settled and (path, key) not in saved
    ]
    own = {each.path: each.run_id for each in journal if isinstance(each, events.ChildStarted)}
    for path, run_id in own.items():
        if path not in settled and path not in continued:
            found += _of_family(store, run_id)
    return found


def _of_family(store: Store, run_id: str) -> list[str]:
    row = store.run(run_id)
    if row is None:
        return []
    journal = store.events(row.no)
    found = [f"{run_id}:{path}" + (f" ({key})" if key else "") for path, key in _happened(journal)]
    for each in journal:
        if isinstance(each, events.ChildStarted):
            found += _of_family(store, each.run_id)
    return found


def _happened(journal: Iterable[events.AnyEvent]) -> dict[tuple[str, str], None]:
    """(path, memo) of irreversible work that has happened, or may have."""
    found: dict[tuple[str, str], None] = {}
    for event in journal:
        match event:
            case events.StepIntent(path=path) if not path.endswith(UNDO):
                found[path, ""] = None
            case (
                events.StepFailed(path=path, in_doubt=False)
                | events.DoubtResolved(path=path, decision="not_done", memo="")
            ):
                found.pop((path, ""), None)
            case events.DoubtResolved(path=path, decision="not_done", memo=memo):
                found.pop((path, memo), None)
            case events.MemoIntent(path=path, key=key):
                found[path, key] = None
            case events.MemoSaved(path=path, key=key, effect="irreversible"):
                found[path, key] = None
            case _:
                pass
    return found
