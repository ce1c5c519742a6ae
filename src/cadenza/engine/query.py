"""Reads what a run shows of itself, without waking it.

A workflow declares views: ``ctx.view("progress", lambda: {"done": done})``. A query replays the journal on a machine
whose commands nobody carries out, and calls the view where the replay ends. Nothing is written, so it works on runs
that wait, run elsewhere, are blocked or have ended, from any process that has the workflow's code. It shows what is on
disk: a step in flight is not in it.
"""

from __future__ import annotations

import inspect
from contextvars import Context as Variables
from typing import TYPE_CHECKING, Any

from cadenza.durable import codec
from cadenza.durable.define import find_workflow
from cadenza.durable.events import AnyEvent
from cadenza.durable.machine import Machine
from cadenza.durable.path import Branch, current_branch
from cadenza.engine.watchdog import Watchdog, looked_after
from cadenza.errors import Evicted, UnknownName, UsageError

if TYPE_CHECKING:
    from cadenza.engine.engine import Engine


async def query(engine: Engine, run_id: str, name: str = "") -> Any:
    """See Engine.query."""
    row = engine.find(run_id)
    journal = engine.store.events(row.no, row.first_seq)
    machine = replayed(engine, row.workflow, journal)
    try:
        return _value(machine, name)
    finally:
        machine.evict()


def replayed(engine: Engine, workflow: str, journal: list[AnyEvent]) -> Machine:
    """A machine at the journal's end, whose commands are dropped; the caller evicts it."""
    machine = Machine(find_workflow(workflow))
    watchdog = Watchdog(engine.clock, engine.options.stall_s)
    try:
        with looked_after(watchdog, engine.options.stall_s / 4):
            watchdog.guard(machine, lambda: machine.replay(journal))
    except BaseException:
        machine.evict()
        raise
    machine.take_commands()
    return machine


def _value(machine: Machine, name: str) -> Any:
    views = machine.views
    if not name and len(views) == 1:
        name = next(iter(views))
    if not name:
        known = f"it has several: {', '.join(sorted(views))}" if views else 'it declares none: ctx.view("progress", …)'
        raise UsageError(f"no view of run {machine.run_id} was named, and {known}")
    if name not in views:
        raise UnknownName("view", name, views, f"Run {machine.run_id} has not declared it, as far as it has come.")
    what = f"the view {name!r} of run {machine.run_id}"
    machine.loop.evicting = True  # from here on Context refuses commands
    try:
        variables = Variables()
        variables.run(current_branch.set, Branch("", machine.seed))
        value = variables.run(views[name])
    except Evicted:
        raise UsageError(f"{what} asked for something to be done. A view only reads") from None
    except Exception as error:
        raise UsageError(f"{what} raised {type(error).__name__}: {error}") from error
    if inspect.isawaitable(value):
        if inspect.iscoroutine(value):
            value.close()
        raise UsageError(f"{what} returned something to be awaited. A view is a plain function that only reads")
    return codec.decode(codec.encode(value, Any, what), Any, what)
