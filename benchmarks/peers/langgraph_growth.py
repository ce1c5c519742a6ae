"""W4 on LangGraph: a state that keeps every message, 800 steps of 1,000 bytes, and what is on disk afterwards."""

# LangGraph is installed in .venv-bench, not where types are checked:
# pyright: reportMissingImports=false

import json
import operator
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph

STEPS, PAYLOAD_BYTES = 800, 1_000


class Conversation(TypedDict):
    messages: Annotated[list[str], operator.add]


def reply(state: Conversation) -> Conversation:
    return {"messages": [f"{len(state['messages']):06d}" + "x" * (PAYLOAD_BYTES - 8)]}


def growth(folder: Path) -> dict[str, float]:
    """Bytes on disk a step, with the log folded in."""
    path = folder / "langgraph.db"
    with closing(sqlite3.connect(path, check_same_thread=False)) as db:
        graph: Any = StateGraph(Conversation)
        graph.add_node("reply", reply)
        graph.add_edge(START, "reply")
        graph.add_conditional_edges(
            "reply", lambda state: "reply" if len(state["messages"]) < STEPS else END, ["reply", END]
        )
        config = {"configurable": {"thread_id": "1"}, "recursion_limit": STEPS + 10}
        graph.compile(checkpointer=SqliteSaver(db)).invoke({"messages": []}, config, durability="sync")
        db.execute("pragma wal_checkpoint(truncate)")
    return {"W4-bytes-800": sum(each.stat().st_size for each in folder.iterdir()) / STEPS}


if __name__ == "__main__":
    print(json.dumps(growth(Path(sys.argv[2]))))
