"""The properties of replay and eviction, held against programs that Hypothesis makes up."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conformance.depth import DEEP
from tests.conformance.programs import LETTERS, Program, interpret, programs
from tests.conformance.properties import (
    a_crash_at_every_event_changes_nothing,
    a_whole_replay_is_the_same,
    eviction_at_every_event_unwinds_everything,
    handler_calls,
    irreversible_work_is_waited_for,
    nothing_is_asked_for_after_the_end,
    unfinished_tasks,
    what_may_have_been_done_is_undone_once,
)
from tests.conformance.shape import Shape
from tests.conformance.test_durable_replay import check_elsewhere
from tests.conformance.world import CALM, CRASHING, LAGGING, ROUGH, Mood, Story, World

worlds = st.tuples(st.integers(0, 2**16), st.sampled_from([CALM, LAGGING, ROUGH]))
deep = settings(
    max_examples=3_000 if DEEP else 120,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)


def story_of(program: Program, seed: int, mood: Mood) -> Story:
    letters = tuple((LETTERS[n % len(LETTERS)], n) for n in range(seed % 7))
    return World(Shape(interpret, {"program": program, "depth": 0}, letters), seed, mood).run()


@deep
@given(programs, worlds)
def test_a_crash_at_every_event_of_any_program_changes_nothing(program: Program, world: tuple[int, Mood]) -> None:
    story = story_of(program, *world)
    a_crash_at_every_event_changes_nothing(story)
    nothing_is_asked_for_after_the_end(story)
    irreversible_work_is_waited_for(story)
    what_may_have_been_done_is_undone_once(story)


@deep
@given(programs, st.integers(0, 2**16))
def test_any_program_that_crashes_again_and_again_has_one_journal_that_tells_it_all(
    program: Program, seed: int
) -> None:
    story = story_of(program, seed, CRASHING)
    a_whole_replay_is_the_same(story)
    irreversible_work_is_waited_for(story)
    what_may_have_been_done_is_undone_once(story)


@deep
@given(programs, worlds)
def test_eviction_at_every_event_of_any_program_unwinds_everything(program: Program, world: tuple[int, Mood]) -> None:
    with handler_calls() as complaints:
        eviction_at_every_event_unwinds_everything(story_of(program, *world))
    assert not [text for text in complaints if "destroyed" in text], complaints


def test_no_program_leaves_a_task_behind() -> None:
    assert unfinished_tasks() == []


def test_any_program_replays_the_same_in_fresh_processes(tmp_path: Path) -> None:
    stories: list[Story] = []

    @deep
    @given(programs, worlds)
    def collect(program: Program, world: tuple[int, Mood]) -> None:
        stories.append(story_of(program, *world))

    collect()
    check_elsewhere(stories, tmp_path, processes=4 if DEEP else 1)
