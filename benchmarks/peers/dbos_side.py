"""DBOS on its SQLite system database: a step's outcome is committed before the next step starts.

A measurement launches DBOS on a fresh file and destroys it at the end; workflows and steps are declared once, as DBOS
wants it. Its steps are async functions, as Cadenza's are; the sync ones were no faster.
"""

# DBOS is installed in .venv-bench, not where types are checked:
# pyright: reportMissingImports=false, reportUntypedFunctionDecorator=false

import asyncio
import logging
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dbos import DBOS

from benchmarks.side import AT_THE_END, ON_DISK, Series, rate_async, serve


@DBOS.step()
async def noop(i: int) -> dict[str, int]:
    return {"ok": i}


@DBOS.workflow()
async def chain(steps: int) -> int:
    for i in range(steps):
        await noop(i)
    return steps


@DBOS.workflow()
async def fan_out(steps: int) -> int:
    return len(await asyncio.gather(*[noop(i) for i in range(steps)]))


def durable(flow: Any, steps: int, repeats: int = 1, runs: int = 1) -> Callable[[Path], float]:
    """Steps per second; the runs of a repeat at the same time."""

    async def measure(folder: Path) -> float:
        DBOS(
            config={
                "name": "bench",
                "system_database_url": f"sqlite:///{folder / 'dbos.sqlite'}",
                "log_level": "CRITICAL",
                "application_version": "1",
            }
        )
        DBOS.launch()
        try:

            def once(k: int) -> Awaitable[object]:
                return asyncio.gather(*[flow(steps) for _ in range(runs if k else 1)])

            return await rate_async(steps * runs, once, repeats)
        finally:
            DBOS.destroy()

    return lambda folder: asyncio.run(measure(folder))


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    serve(
        {"dbos": version("dbos")},
        [
            Series("W1", "DBOS, SQLite", ON_DISK, durable(chain, 100)),
            Series("W2", "DBOS, SQLite", AT_THE_END, durable(fan_out, 1_000)),
            Series("W3", "DBOS, SQLite", ON_DISK, durable(chain, 10, runs=100)),
        ],
    )
