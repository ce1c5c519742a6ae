"""W8's agent on LangGraph: its prebuilt agent with the SQLite saver, every step on disk."""

# LangGraph is installed in .venv-bench, not where types are checked:
# pyright: reportMissingImports=false

import sys
from pathlib import Path

from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.prebuilt import create_react_agent

from benchmarks.scripted_model import CALLS, INSTRUCTIONS, TASK, measure, timed


@tool
async def look(number: int) -> str:
    """Look at a number."""
    return f"{number} is fine"


async def durable(folder: Path) -> float:
    async with AsyncSqliteSaver.from_conn_string(str(folder / "langgraph.db")) as saver:
        agent = create_react_agent(ChatOpenAI(model="scripted"), [look], prompt=INSTRUCTIONS, checkpointer=saver)
        threads = iter(range(1_000))

        async def once() -> str:
            config = {"configurable": {"thread_id": str(next(threads))}, "recursion_limit": 3 * CALLS}
            ended = await agent.ainvoke({"messages": [("user", TASK)]}, config, durability="sync")
            return ended["messages"][-1].content

        return await timed(once)


if __name__ == "__main__":
    measure(durable, Path(sys.argv[2]))
