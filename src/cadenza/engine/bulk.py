"""The same deed on many runs, for example on all that a filter names."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from cadenza.engine.store import RunRow
from cadenza.errors import CadenzaError

TOGETHER = 64
"""So many are under way at a time: their writes share transactions."""


class Bulk(msgspec.Struct, frozen=True):
    """What became of many runs: how many it was done to, and why not to the others, by run id."""

    done: int
    failed: list[tuple[str, CadenzaError]]


async def on_all(
    rows: Sequence[RunRow], act: Callable[[RunRow], Awaitable[Any]], progress: Callable[[int], None] = lambda _: None
) -> Bulk:
    """``act`` on each run: ``await on_all(engine.runs(filter), lambda row: engine.cancel(row.run_id))``.

    One that fails does not stop the others. ``progress`` is called with how many have been tried.
    """
    failed: list[tuple[str, CadenzaError]] = []

    async def one(row: RunRow) -> None:
        try:
            await act(row)
        except CadenzaError as error:
            failed.append((row.run_id, error))

    for start in range(0, len(rows), TOGETHER):
        some = rows[start : start + TOGETHER]
        await asyncio.gather(*(one(row) for row in some))
        progress(start + len(some))
    return Bulk(len(rows) - len(failed), failed)
