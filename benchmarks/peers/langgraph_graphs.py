"""The workloads as LangGraph programs: chains and fan-outs of no-op steps, as graphs and as functions.

Each builder takes (steps, saver or None) and returns the compiled program and what to invoke it with.
"""

# LangGraph is installed in .venv-bench, not where types are checked:
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

import asyncio
import operator
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send

Build = Callable[[int, Any], tuple[Any, Any]]


class Last(TypedDict):
    """The state of a chain: the newest outcome only, so that a checkpoint stays small."""

    ok: int


class Collected(TypedDict):
    """The state of a fan-out: every outcome."""

    outcomes: Annotated[list[dict[str, int]], operator.add]


def increment(state: Last) -> Last:
    return {"ok": state["ok"] + 1}


async def increment_async(state: Last) -> Last:
    return {"ok": state["ok"] + 1}


def collect(i: int) -> Collected:
    return {"outcomes": [{"ok": i}]}


async def collect_async(i: int) -> Collected:
    return {"outcomes": [{"ok": i}]}


@task
def noop(i: int) -> dict[str, int]:
    return {"ok": i}


@task
async def noop_async(i: int) -> dict[str, int]:
    return {"ok": i}


def chain(node: Any) -> Build:
    """A graph of as many nodes as steps."""

    def build(steps: int, saver: Any) -> tuple[Any, Any]:
        graph = StateGraph(Last)
        names = [f"s{i}" for i in range(steps)]
        for name, previous in zip(names, [START, *names], strict=False):
            graph.add_node(name, node)
            graph.add_edge(previous, name)
        graph.add_edge(names[-1], END)
        return graph.compile(checkpointer=saver), {"ok": 0}

    return build


def loop(node: Any) -> Build:
    """A graph of one node that returns to itself until the steps are done."""

    def build(steps: int, saver: Any) -> tuple[Any, Any]:
        graph = StateGraph(Last)
        graph.add_node("s", node)
        graph.add_edge(START, "s")
        graph.add_conditional_edges("s", lambda state: "s" if state["ok"] < steps else END, ["s", END])
        return graph.compile(checkpointer=saver), {"ok": 0}

    return build


def fan_out(node: Any) -> Build:
    """A graph that sends one message a step to the same node."""

    def build(steps: int, saver: Any) -> tuple[Any, Any]:
        graph = StateGraph(Collected)
        graph.add_node("s", node)
        graph.add_conditional_edges(START, lambda _: [Send("s", i) for i in range(steps)], ["s"])
        graph.add_edge("s", END)
        return graph.compile(checkpointer=saver), {"outcomes": []}

    return build


def task_chain(steps: int, saver: Any) -> tuple[Any, Any]:
    """The functional API, one task after another."""

    @entrypoint(checkpointer=saver)
    def run(count: int) -> int:
        for i in range(count):
            noop(i).result()
        return count

    return run, steps


def task_chain_async(steps: int, saver: Any) -> tuple[Any, Any]:
    """The functional API on asyncio, one task after another."""

    @entrypoint(checkpointer=saver)
    async def run(count: int) -> int:
        for i in range(count):
            await noop_async(i)
        return count

    return run, steps


def task_gather_async(steps: int, saver: Any) -> tuple[Any, Any]:
    """The functional API on asyncio, all tasks at once."""

    @entrypoint(checkpointer=saver)
    async def run(count: int) -> int:
        return len(await asyncio.gather(*[noop_async(i) for i in range(count)]))

    return run, steps
