"""Concurrent: several work on the same input at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from cadenza.durable.context import Context
from cadenza.patterns.worker import Work, perform


async def concurrent(ctx: Context, workers: Sequence[Work], input: Any) -> list[Any]:
    """Give ``input`` to all ``workers`` at once.

    Returns:
        Their outputs, in the order of ``workers``.

    Raises:
        StepError, ChildError: of the first that fails; the others are cancelled, and their clean-up is awaited.
    """

    async def one(worker: Work) -> Any:
        return await perform(ctx, worker, input)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(worker)) for worker in workers]
    except* Exception as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]
