"""The one synchronous entry: run a workflow from a script."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from cadenza.durable.define import WorkflowFunction
from cadenza.engine.engine import Engine
from cadenza.engine.options import EngineOptions
from cadenza.engine.store import Conflict

T = TypeVar("T")


def run(
    workflow: WorkflowFunction[..., T],
    input: Any = None,
    *,
    store: str | Path = "cadenza.db",
    id: str = "",
    on_conflict: Conflict = "join",
    observe: Callable[[Any], None] | None = None,
    options: EngineOptions | None = None,
) -> T:
    """Run a workflow to its end and return its result; see Engine.start.

    With an ``id``, the same call after a crash goes on where the run was, and after its end returns its result.
    """

    async def main() -> T:
        async with Engine.open(store, options) as engine:
            if observe is not None:
                engine.observe(observe)
            handle = await engine.start(workflow, input, id=id, on_conflict=on_conflict)
            await engine.resume(handle.run_id)
            return await handle.result()

    return asyncio.run(main())
