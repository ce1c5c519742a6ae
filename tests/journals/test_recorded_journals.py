"""Journals recorded by earlier versions replay on current code: the same commands, and the same ending."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from cadenza.durable import events
from cadenza.durable.machine import Machine
from cadenza.errors import Nondeterminism
from tests.journals import workflows

FILES = sorted(Path(__file__).parent.glob("*.jsonl"))
decoder = msgspec.json.Decoder(events.AnyEvent)


def read(file: Path) -> list[events.AnyEvent]:
    return [decoder.decode(line) for line in file.read_bytes().splitlines()]


def test_there_are_recorded_journals() -> None:
    assert len(FILES) >= 12


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_recorded_journal_replays_to_its_ending(file: Path) -> None:
    machine = Machine(getattr(workflows, file.stem))
    machine.replay(read(file))  # the last event is compared with the ending that the code comes to
    assert machine.finished
    assert not machine.open


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_prefix_of_a_recorded_journal_replays(file: Path) -> None:
    journal = read(file)
    for length in range(1, len(journal)):
        machine = Machine(getattr(workflows, file.stem))
        machine.replay(journal[:length])
        assert not machine.evict()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_recorded_journal_without_an_outcome_is_refused_or_waits(file: Path) -> None:
    """The test could fail: a journal that lacks its first outcome does not come to its ending."""
    journal = read(file)
    outcomes = [i for i, event in enumerate(journal) if isinstance(event, events.Outcome) and hasattr(event, "path")]
    if not outcomes:
        outcomes = [i for i, event in enumerate(journal) if isinstance(event, events.CancelRequested)]
    del journal[outcomes[0]]
    machine = Machine(getattr(workflows, file.stem))
    with pytest.raises(Nondeterminism):
        machine.replay(journal)
    machine.evict()
