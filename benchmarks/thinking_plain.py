"""W8's agent on plain Pydantic AI: the same model, tool and instructions, and nothing on disk."""

import sys
from pathlib import Path

from pydantic_ai import Agent

from benchmarks.scripted_model import INSTRUCTIONS, TASK, measure, timed


async def plain(_folder: Path) -> float:
    agent = Agent("openai-chat:scripted", instructions=INSTRUCTIONS)

    @agent.tool_plain
    async def look(number: int) -> str:
        """Look at a number."""
        return f"{number} is fine"

    async def once() -> str:
        return (await agent.run(TASK)).output

    return await timed(once)


if __name__ == "__main__":
    measure(plain, Path(sys.argv[2]))
