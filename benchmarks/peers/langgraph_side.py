"""LangGraph with its SQLite savers, each workload in the fastest ways that its own API offers.

`durability="sync"` is passed to every durable call. In langgraph 1.2 (`pregel/main.py`, after a superstep) that waits
for the checkpoint which holds the superstep's outcome; so a StateGraph has each step on disk before the next begins.
Tasks of the functional API run inside one superstep: their writes are submitted and not waited for (`pregel/_loop.py`,
`put_writes`), so such a chain promises less than Cadenza's. It is measured and shown, and does not count as a durable
mode in W1 and W3. W2 is one fan-out whose end waits for all writes, so both APIs count there. Both savers keep SQLite's
default `synchronous`, which is FULL: asserted here.
"""

# LangGraph is installed in .venv-bench, not where types are checked:
# pyright: reportMissingImports=false

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from benchmarks.peers.langgraph_graphs import (
    Build,
    chain,
    collect,
    collect_async,
    fan_out,
    increment,
    increment_async,
    loop,
    task_chain,
    task_chain_async,
    task_gather_async,
)
from benchmarks.side import (
    AT_THE_END,
    NONE,
    ON_DISK,
    ONE_BY_ONE,
    SUBMITTED,
    Series,
    cpu_us_async,
    rate,
    rate_async,
    serve,
)

Measure = Callable[[Path], float]


def config(thread: object) -> dict[str, object]:
    """A thread of its own for each run."""
    return {"configurable": {"thread_id": str(thread)}, "recursion_limit": 5_000}


def durable(build: Build, steps: int, repeats: int = 1, runs: int = 1) -> Measure:
    """SqliteSaver and `invoke`: steps per second; the runs of a repeat one after another."""

    def measure(folder: Path) -> float:
        with closing(sqlite3.connect(folder / "langgraph.db", check_same_thread=False)) as db:
            saver = SqliteSaver(db)
            saver.setup()
            assert db.execute("pragma synchronous").fetchone() == (2,), "not FULL"
            graph, given = build(steps, saver)

            def once(k: int) -> None:
                for i in range(runs if k else 1):
                    graph.invoke(given, config(f"{k}-{i}"), durability="sync")

            return rate(steps * runs, once, repeats)

    return measure


def durable_async(build: Build, steps: int, repeats: int = 1, runs: int = 1) -> Measure:
    """AsyncSqliteSaver and `ainvoke`: steps per second; the runs of a repeat at the same time."""

    async def measure(folder: Path) -> float:
        async with AsyncSqliteSaver.from_conn_string(str(folder / "langgraph.db")) as saver:
            await saver.setup()
            async with saver.conn.execute("pragma synchronous") as cursor:
                assert await cursor.fetchone() == (2,), "not FULL"
            graph, given = build(steps, saver)

            def once(k: int) -> Awaitable[object]:
                configs = [config(f"{k}-{i}") for i in range(runs if k else 1)]
                return asyncio.gather(*[graph.ainvoke(given, c, durability="sync") for c in configs])

            return await rate_async(steps * runs, once, repeats)

    return lambda folder: asyncio.run(measure(folder))


def volatile(build: Build, steps: int, repeats: int = 1) -> Measure:
    """No saver and `invoke`: steps per second."""

    def measure(_folder: Path) -> float:
        graph, given = build(steps, None)
        return rate(steps, lambda k: graph.invoke(given, config(k)), repeats)

    return measure


def volatile_async(build: Build, steps: int, repeats: int = 1, runs: int = 1) -> Measure:
    """No saver and `ainvoke`: steps per second; the runs of a repeat at the same time."""

    def measure(_folder: Path) -> float:
        graph, given = build(steps, None)

        def once(k: int) -> Awaitable[object]:
            return asyncio.gather(*[graph.ainvoke(given, config(f"{k}-{i}")) for i in range(runs if k else 1)])

        return asyncio.run(rate_async(steps * runs, once, repeats))

    return measure


def volatile_cpu(build: Build, steps: int) -> Measure:
    """No saver and `ainvoke`: microseconds of processor time a step."""

    def measure(_folder: Path) -> float:
        graph, given = build(steps, None)
        return asyncio.run(cpu_us_async(steps, lambda k: graph.ainvoke(given, config(k)), repeats=1))

    return measure


def main() -> None:
    """Serve every series."""
    graph, loop_graph = "LangGraph graph of 100", "LangGraph loop"
    serve(
        {name: version(name) for name in ("langgraph", "langgraph-checkpoint-sqlite")}
        | {"SQLite (LangGraph)": sqlite3.sqlite_version},
        [
            Series("W1", f"{graph}, SqliteSaver", ON_DISK, durable(chain(increment), 100, repeats=3)),
            Series("W1", f"{loop_graph}, SqliteSaver", ON_DISK, durable(loop(increment), 100, repeats=3)),
            Series("W1", f"{graph}, AsyncSqliteSaver", ON_DISK, durable_async(chain(increment_async), 100, repeats=3)),
            Series("W1", "LangGraph tasks, SqliteSaver", SUBMITTED, durable(task_chain, 100, repeats=3)),
            Series(
                "W1", "LangGraph tasks, AsyncSqliteSaver", SUBMITTED, durable_async(task_chain_async, 100, repeats=3)
            ),
            Series("W1p", "LangGraph graph of 1,000, no saver", NONE, volatile(chain(increment), 1_000)),
            Series("W1p", f"{loop_graph}, no saver", NONE, volatile(loop(increment), 1_000)),
            Series("W2", "LangGraph Send, SqliteSaver", AT_THE_END, durable(fan_out(collect), 1_000)),
            Series("W2", "LangGraph Send, AsyncSqliteSaver", AT_THE_END, durable_async(fan_out(collect_async), 1_000)),
            Series("W2", "LangGraph tasks, AsyncSqliteSaver", AT_THE_END, durable_async(task_gather_async, 1_000)),
            Series("W2", "LangGraph Send, no saver", NONE, volatile_async(fan_out(collect_async), 1_000)),
            Series(
                "W3",
                "LangGraph graph of 10, AsyncSqliteSaver",
                ON_DISK,
                durable_async(chain(increment_async), 10, runs=500),
            ),
            Series("W3", "LangGraph tasks, AsyncSqliteSaver", SUBMITTED, durable_async(task_chain_async, 10, runs=500)),
            Series("W3", f"{loop_graph}, SqliteSaver, in turn", ONE_BY_ONE, durable(loop(increment), 10, runs=500)),
            Series("W3", "LangGraph graph of 10, no saver", NONE, volatile_async(chain(increment_async), 10, runs=500)),
            Series("cpu-chain", f"{loop_graph}, no saver", NONE, volatile_cpu(loop(increment_async), 1_000)),
            Series("cpu-gather", "LangGraph Send, no saver", NONE, volatile_cpu(fan_out(collect_async), 1_000)),
        ],
    )


if __name__ == "__main__":
    main()
