"""Sequential: a pipeline; the output of one is the input of the next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cadenza.durable.context import Context
from cadenza.patterns.worker import Work, perform


async def sequential(ctx: Context, stages: Sequence[Work], input: Any) -> Any:
    """Pass ``input`` through ``stages`` in order.

    Returns:
        The last stage's output; ``input`` itself if there are no stages.

    Raises:
        StepError, ChildError: of the first stage that fails; later stages are not called.
    """
    for stage in stages:
        input = await perform(ctx, stage, input)
    return input
