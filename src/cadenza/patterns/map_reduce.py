"""Map and reduce: one worker for each item, a bounded number at a time; then, if wanted, one for all the results."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from cadenza.durable.context import Context
from cadenza.errors import DefinitionError
from cadenza.patterns.worker import Work, perform


async def map_reduce(
    ctx: Context, items: Sequence[Any], worker: Work, *, limit: int = 10, reduce: Work | None = None
) -> Any:
    """Have ``worker`` done on every item, at most ``limit`` at a time.

    Returns:
        The outputs in the order of ``items``, or what ``reduce`` makes of that list.

    Raises:
        DefinitionError: ``limit`` is under one.
        StepError, ChildError: of the first item that fails; items under way are cancelled, later ones not begun.
            A worker that is an async function may catch its own failures and return what stands for them.
    """
    if limit < 1:
        raise DefinitionError(f"map_reduce needs a limit of at least 1, not {limit}")
    room = asyncio.Semaphore(limit)

    async def one(item: Any) -> Any:
        async with room:
            return await perform(ctx, worker, item)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(item)) for item in items]
    except* Exception as errors:
        raise errors.exceptions[0] from None
    results = [task.result() for task in tasks]
    return results if reduce is None else await perform(ctx, reduce, results)
