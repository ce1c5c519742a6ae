"""Properties of replay, over the corpus: a crash at any event, in any order, on any heap, changes nothing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from cadenza.durable import events
from tests.conformance.corpus import ALL_SHAPES, BY_NAME, SHAPES
from tests.conformance.depth import DEEP, seeds
from tests.conformance.elsewhere import replays_elsewhere
from tests.conformance.properties import (
    a_crash_at_every_event_changes_nothing,
    a_whole_replay_is_the_same,
    difference,
    irreversible_work_is_waited_for,
    nothing_is_asked_for_after_the_end,
    told,
    what_may_have_been_done_is_undone_once,
)
from tests.conformance.shape import Shape
from tests.conformance.world import CALM, CRASHING, LAGGING, ROUGH, Mood, Story, World

each_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
each_mood = pytest.mark.parametrize("mood", [CALM, LAGGING, ROUGH], ids=["calm", "lagging", "rough"])


@each_shape
@pytest.mark.parametrize("mood", [CALM, LAGGING, CRASHING], ids=["calm", "lagging", "crashing"])
def test_a_run_ends_as_it_should_in_any_order_of_arrival(shape: Shape, mood: Mood) -> None:
    for seed in seeds(5):
        story = World(shape, seed, mood).run()
        assert story.end == shape.ends, (str(story), story.lives[-1].ending)
        assert story.end != "completed" or shape.good(story.result), (str(story), story.result)


@each_shape
@each_mood
def test_a_crash_at_every_event_changes_nothing(shape: Shape, mood: Mood) -> None:
    for seed in seeds(3):
        a_crash_at_every_event_changes_nothing(World(shape, seed, mood).run())


@each_shape
def test_a_run_that_crashes_again_and_again_has_one_journal_that_tells_it_all(shape: Shape) -> None:
    for seed in seeds(5):
        a_whole_replay_is_the_same(World(shape, seed, CRASHING).run())


@each_shape
def test_a_run_ends_with_nothing_in_flight_and_nothing_half_undone(shape: Shape) -> None:
    for mood in (LAGGING, ROUGH, Mood(lag=0.4, chaos=0.3, cancel=0.02, crash=0.1)):
        for seed in seeds(6):
            story = World(shape, seed, mood).run()
            nothing_is_asked_for_after_the_end(story)
            irreversible_work_is_waited_for(story)
            what_may_have_been_done_is_undone_once(story)


def test_replay_in_fresh_processes_with_other_hash_seeds_and_heaps_is_the_same(tmp_path: Path) -> None:
    stories = [
        World(shape, seed, mood).run()
        for shape in ALL_SHAPES
        for mood in (LAGGING, ROUGH, CRASHING)
        for seed in range(1_000, 1_000 + len(seeds(4)))
    ]
    check_elsewhere(stories, tmp_path, processes=8 if DEEP else 2)


def check_elsewhere(stories: list[Story], folder: Path, processes: int) -> None:
    """Each story, whole and cut off at half, must be told the same by each of so many processes."""
    lives = [(story, life) for story in stories for life in story.lives]
    whole = [(story.shape.workflow.name, life.journal) for story, life in lives]
    halves = [(name, journal[: 1 + len(journal) // 2]) for name, journal in whole]
    for seed in range(processes):
        found = replays_elsewhere([*whole, *halves], folder, seed)
        for (story, life), (trace, ending, _) in zip(lives, found, strict=False):
            assert trace == life.trace, f"{story}: {difference(life.trace, trace)}"
            assert ending == as_json(told(life.ending)), str(story)
        for (story, life), (_, journal), (trace, _, left_open) in zip(lives, halves, found[len(lives) :], strict=True):
            if story.mood.crash or any(len(journal) in unsaid for unsaid in life.unsaid):
                continue
            made, was_open = life.mark_at(len(journal))
            assert trace == life.trace[:made], f"{story}, at half: {difference(life.trace[:made], trace)}"
            assert left_open == was_open, f"{story}, at half"


def as_json(value: object) -> object:
    """A told ending as it comes back from another process."""
    if isinstance(value, tuple | list):
        return [as_json(each) for each in value]
    return repr(value) if isinstance(value, bytes) else value


def test_the_corpus_has_every_kind_of_event_and_of_end() -> None:
    """The properties are not vacuous: all that a journal can hold happens, and so does every end."""
    kinds: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    for shape in SHAPES:
        for mood in (LAGGING, ROUGH):
            for seed in range(4):
                story = World(shape, seed, mood).run()
                ends[story.end] += 1
                kinds.update(type(event).__name__ for life in story.lives for event in life.journal)
    of_the_engine = {
        "AttemptFailed",
        "OutcomeInDoubt",
        "DoubtResolved",
        "MemoIntent",
        "MemoSaved",
        "MemosDiscarded",
        "Parked",
        "AttributesSet",
        "UpdateAccepted",
        "UpdateAnswered",
        "UpdateReceived",
        "Forked",
    }
    missing = {kind.__name__ for kind in events.AnyEvent.__args__} - set(kinds) - of_the_engine
    assert not missing
    assert set(ends) >= {"completed", "failed", "cancelled", "waiting"}
    assert len(SHAPES) >= 18


def test_order_of_arrival_matters_to_the_corpus() -> None:
    """Shapes whose result depends on it give many results: whoever delivered by another order would be found out."""
    for name in ("shared_state", "in_order_of_arrival", "failing_groups", "sets_of_tasks", "first_wins"):
        results = {str(World(BY_NAME[name], seed, CALM).run().result) for seed in range(12)}
        assert len(results) >= 3, name
