"""A recorded journal can be forked at each of its outcomes, and the fork at each of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from cadenza.durable import events
from cadenza.durable.machine import Machine
from cadenza.engine.memory import MemoryStore
from cadenza.engine.splice import Cut, Splice, Spliced
from cadenza.engine.store import RunRow
from tests.journals import workflows
from tests.journals.test_recorded_journals import FILES, read

Late = Literal["nothing", "under way", "everything"]


def cuts(journal: list[events.AnyEvent]) -> list[tuple[int, str]]:
    return [
        (index, getattr(event, "path", ""))
        for index, event in enumerate(journal)
        if isinstance(event, events.Outcome | events.Terminal)
    ]


def spliced(name: str, journal: list[events.AnyEvent], cut: Cut, run_id: str) -> Spliced:
    first = journal[0]
    assert isinstance(first, events.RunStarted)
    row = RunRow(1, first.run_id, first.workflow, "completed", generation=first.generation)
    return Splice(MemoryStore(), row, journal, getattr(workflows, name), cut, {}).make(run_id, journal[-1].at + 1_000)


@pytest.mark.parametrize("late", ["nothing", "under way", "everything"])
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_journal_is_forked_at_each_of_its_outcomes(file: Path, late: Late) -> None:
    journal = read(file)
    for index, path in cuts(journal):
        one = spliced(file.stem, journal, Cut(index, path, late=late), "one")
        own = [one.started, *one.history]
        assert path not in {getattr(each, "path", "") for each in own if isinstance(each, events.Outcome)} or not path
        assert [each.at for each in own] == sorted(each.at for each in own)
        machine = Machine(getattr(workflows, file.stem))
        machine.replay(own)
        assert (machine.run_id, sorted(machine.open)) == ("one", sorted(each.path for each in one.open))
        machine.evict()
        for again, at in cuts(own):
            two = spliced(file.stem, own, Cut(again, at, late=late), "two")
            assert two.started.begun_as == one.started.begun_as
