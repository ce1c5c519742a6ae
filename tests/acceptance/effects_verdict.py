"""What must hold in the end, whatever happened to the processes: the store's word against the world's.

- Every run has ended with its right result, and each effect that it needed has happened.
- An irreversible effect has happened once.
- An effect that happened again did so with the same key, and no two effects share one.
- What a failed or cancelled run had done was undone, last first; what a completed run did was not.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

from cadenza.durable import events
from cadenza.durable.path import UNDO
from cadenza.engine.sqlite.store import SQLiteStore
from cadenza.engine.store import Filter
from tests.acceptance import failpoint_workflows as project
from tests.acceptance.effects_server import Effect, World
from tests.acceptance.failpoint_worker import BY

ENDS = {
    "order": {"completed"},
    "patient": {"completed"},
    "trip": {"failed"},
    "gamble": {"failed", "completed"},
    "stay": {"cancelled"},
}


def errors_of(store: Path) -> str:
    """What the workers have logged as errors."""
    errors = store.with_name(store.name + ".errors")
    return errors.read_text()[-20_000:] if errors.exists() else ""


class Verdict:
    """Compares what a store says of its runs with what the world says of their effects."""

    def __init__(self, store: Path, world: World) -> None:
        self.world = world
        assert not errors_of(store), errors_of(store)
        self._store = SQLiteStore(store)
        self.rows = {row.business_id: row for row in self._store.runs(Filter(limit=100_000)) if row.business_id}
        self.all = self._store.runs(Filter(limit=100_000))
        self.doubts = 0

    def check(self, runs: list[tuple[str, str]]) -> None:
        """All of the invariants, for these runs."""
        try:
            assert not self._store.tasks(), "a question is still open"
            assert all(row.ended for row in self.all), "a run has not ended"
            for workflow, name in runs:
                self._check_end(workflow, name)
            self._check_times()
            self._check_undone()
        finally:
            self._store.close()

    def _check_end(self, workflow: str, name: str) -> None:
        row = self.rows[name]
        journal = self._store.events(row.no)
        self.doubts += sum(isinstance(event, events.OutcomeInDoubt | events.DoubtResolved) for event in journal)
        assert row.status in ENDS[workflow], f"{name} is {row.status}: {row.detail}"
        match journal[-1]:
            case events.RunCompleted(value=value):
                result = json.loads(value)
                assert result == project.results(name, BY, result[0])[workflow]
            case events.RunFailed(failure=failure) if workflow == "trip":
                assert str(failure) == project.results(name, BY, "")[workflow]
            case events.RunCancelled(failure=failure):
                assert failure is None
            case last:
                assert isinstance(last, events.RunFailed)
                assert last.failure.type.endswith("StepError"), last
        intents = {event.path for event in journal if isinstance(event, events.StepIntent)}
        undos = {event.path for event in journal if isinstance(event, events.StepCompleted) and UNDO in event.path}
        assert undos <= intents, f"{name} has undone something without having said so first"
        done = {effect.step for effect in self.world.of(name)}
        assert not set(project.NEEDED[workflow]) - done, f"{name} ended without these effects"

    def _check_times(self) -> None:
        by_effect: dict[str, list[Effect]] = defaultdict(list)
        for effect in self.world.of():
            by_effect[effect.value].append(effect)
        for what, times in by_effect.items():
            assert len({each.key for each in times}) == 1, f"{what} happened under several keys: {times}"
            if times[0].kind == "irreversible":
                assert len(times) == 1, f"{what} is irreversible, and happened {len(times)} times"
        by_key: dict[str, set[str]] = defaultdict(set)
        for effect in self.world.of():
            by_key[effect.key].add(effect.value)
        assert all(len(effects) == 1 for effects in by_key.values()), "two effects share a key"

    def _check_undone(self) -> None:
        """Each booking of a run that did not complete was undone after it; no other was; the last first."""
        status = {row.run_id: row.status for row in self.all}
        undone = {effect.undo_of: effect for effect in reversed(self.world.of()) if effect.undo_of}
        booked: dict[str, Effect] = {effect.key: effect for effect in self.world.of(kind="compensatable")}
        for key, booking in booked.items():
            if status[key.partition(":")[0]] == "completed":
                assert key not in undone, f"{booking.value} was undone, and its run is completed"
                continue
            assert key in undone, f"{booking.value} was never undone"
            assert undone[key].at > booking.at, f"{booking.value} was undone before it happened the last time"
        for run in {booking.run for booking in booked.values() if booking.step == "book guide"}:
            steps = {each.step: undone[each.key].at for each in booked.values() if each.run == run}
            assert steps["book guide"] < min(steps["book hotel"], steps["book car"])
            assert max(steps["book hotel"], steps["book car"]) < steps["book flight"]
