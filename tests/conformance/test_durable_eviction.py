"""Properties of eviction: a machine that leaves memory asks for nothing more, and nothing of it is left."""

from __future__ import annotations

import gc
import weakref

import pytest

from cadenza.durable import events
from cadenza.durable.machine import Machine
from tests.conformance.corpus import ALL_SHAPES
from tests.conformance.depth import seeds
from tests.conformance.properties import eviction_at_every_event_unwinds_everything, handler_calls, unfinished_tasks
from tests.conformance.shape import Shape
from tests.conformance.shapes.tasks import rude_endings, swallows_for_ever
from tests.conformance.world import LAGGING, ROUGH, T0, World


@pytest.mark.parametrize("shape", ALL_SHAPES, ids=lambda shape: shape.name)
def test_eviction_at_every_event_leaves_no_task_and_no_action(shape: Shape) -> None:
    with handler_calls() as complaints:
        for seed in seeds(3):
            for mood in (LAGGING, ROUGH):
                eviction_at_every_event_unwinds_everything(World(shape, seed, mood).run())
        assert unfinished_tasks() == []
    assert not [text for text in complaints if "destroyed" in text], complaints


def test_an_evicted_machine_is_collected_as_a_whole() -> None:
    machine = Machine(ALL_SHAPES[0].workflow)
    machine.apply(started(ALL_SHAPES[0].workflow.name, b"1"))
    gone = weakref.ref(machine)
    machine.evict()
    del machine
    gc.collect()
    assert gone() is None


def test_a_machine_can_be_evicted_before_it_was_started_and_twice() -> None:
    machine = Machine(ALL_SHAPES[0].workflow)
    assert machine.evict() == []
    machine = Machine(ALL_SHAPES[0].workflow)
    machine.apply(started(ALL_SHAPES[0].workflow.name, b"1"))
    assert machine.evict() == []
    assert machine.evict() == []


@pytest.mark.parametrize("kind", ["step", "sleep", "yield", "receive", "group", "shield"])
def test_an_endless_loop_that_swallows_everything_is_named_and_cannot_act(kind: str) -> None:
    machine = Machine(swallows_for_ever, [])
    machine.apply(started(swallows_for_ever.name, f'"{kind}"'.encode()))
    made = list(machine.trace or [])
    assert "root" in machine.evict()
    assert machine.trace == made
    del machine
    gc.collect()


@pytest.mark.parametrize("kind", ["returns", "raises", "continues", "exits", "cancels"])
def test_workflow_code_that_ends_otherwise_while_it_is_evicted_has_not_ended(kind: str) -> None:
    machine = Machine(rude_endings, [])
    machine.apply(started(rude_endings.name, f'"{kind}"'.encode()))
    made = list(machine.trace or [])
    assert machine.evict() == []
    assert machine.trace == made
    assert not machine.finished
    assert machine.take_commands()[-1].path == "@receive:never#1"  # type: ignore[union-attr]


def started(workflow: str, raw: bytes) -> events.RunStarted:
    return events.RunStarted(at=T0, run_id="r", workflow=workflow, input=raw)
