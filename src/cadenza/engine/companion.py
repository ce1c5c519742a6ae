"""What lives beside a worker for as long as its engine is open: heartbeats of the layers above."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from cadenza.engine.catalogue import Catalogue

log = logging.getLogger("cadenza")
Companion = Callable[[Catalogue, str], Awaitable[None]]
"""Called with the engine's catalogue and the worker's name; it is cancelled when the engine closes."""

companions: list[Companion] = []
"""Layers above put theirs in here when they are imported."""


class Company:
    """The companions of one engine."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self, companions: Sequence[Companion], catalogue: Catalogue, owner: str) -> None:
        self._tasks = [asyncio.ensure_future(_live(each, catalogue, owner)) for each in companions]

    async def end(self) -> None:
        for each in self._tasks:
            each.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._tasks = []


async def _live(companion: Companion, catalogue: Catalogue, owner: str) -> None:
    try:
        await companion(catalogue, owner)
    except Exception:
        log.exception("a companion of the worker %s has ended", owner)
