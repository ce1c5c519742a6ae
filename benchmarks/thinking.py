"""W8: an LLM agent of 20 tool calls against a scripted local server, on Cadenza and on plain Pydantic AI.

`python -m benchmarks.thinking W8 FOLDER` prints milliseconds a call (a request and its tool), everything on disk;
`python -m benchmarks.thinking_plain W8 FOLDER` the same agent with nothing durable.
"""

import sys
from pathlib import Path

from benchmarks.scripted_model import INSTRUCTIONS, TASK, measure, timed
from cadenza import Agent, Context, Engine, tool, workflow

MODEL = "openai-chat:scripted"


@tool
async def look(number: int) -> str:
    """Look at a number."""
    return f"{number} is fine"


@workflow
async def thinking(ctx: Context, task: str) -> str:
    return await ctx.call("looker", task)


async def durable(folder: Path) -> float:
    Agent("looker", model=MODEL, instructions=INSTRUCTIONS, tools=[look])
    async with Engine.open(folder / "store.db") as engine:

        async def once() -> str:
            return await (await engine.start(thinking, TASK)).result()

        return await timed(once)


if __name__ == "__main__":
    measure(durable, Path(sys.argv[2]))
