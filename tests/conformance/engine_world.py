"""The world around runs of a real engine: sends what a shape is sent, and answers what it asks."""

from __future__ import annotations

import asyncio
import contextlib
from random import Random

from cadenza import Engine, RunHandle
from cadenza.engine.store import RunRow
from cadenza.errors import CadenzaError, UsageError
from tests.conformance.shape import Shape

LOOK_S = 0.002
QUIET_LOOKS = 10


async def live(engine: Engine, shape: Shape, seed: int, cancel: bool = False) -> RunRow:
    """Start a run of ``shape`` and stay with it until it has ended, or waits for what will not come.

    Args:
        seed: decides when messages are sent, and when the run is cancelled.
        cancel: cancel it at some moment.
    """
    random = Random(seed)
    handle = await engine.start(shape.workflow, shape.input)
    sender = asyncio.create_task(_send(engine, handle, shape, random))
    canceller = asyncio.create_task(_cancel(handle, random)) if cancel else None
    row = await finish(engine, handle.run_id, shape, sender, *([canceller] if canceller else []))
    await sender
    return row


async def finish(engine: Engine, run_id: str, shape: Shape, *others: asyncio.Task[None]) -> RunRow:
    """Answer what a run asks until it has ended; or until ``others`` are done and it has long been at rest."""
    quiet = 0
    while True:
        row = engine.find(run_id)
        asked = await _answer(engine, run_id, shape)
        at_rest = engine.is_settled(row) and not asked and all(task.done() for task in others)
        quiet = quiet + 1 if at_rest else 0
        if (row.ended and at_rest) or quiet > QUIET_LOOKS:
            return row
        await asyncio.sleep(LOOK_S)


async def _send(engine: Engine, handle: RunHandle[object], shape: Shape, random: Random) -> None:
    for name, value in shape.messages:
        await asyncio.sleep(random.choice((0, 0, 0.003, 0.01)))
        try:
            await handle.signal(name, value)
        except UsageError:
            assert handle.row.ended  # it was cancelled meanwhile
            return


async def _cancel(handle: RunHandle[object], random: Random) -> None:
    await asyncio.sleep(random.uniform(0, 0.06))
    try:
        await handle.cancel("by lot")
    except CadenzaError:
        assert handle.row.ended


async def _answer(engine: Engine, run_id: str, shape: Shape) -> int:
    asked = engine.tasks(run_id)
    for row, task in asked:
        with contextlib.suppress(CadenzaError):  # it was withdrawn, or answered a moment ago
            await engine.answer(run_id, row.path, shape.answer(task))
    return len(asked)
