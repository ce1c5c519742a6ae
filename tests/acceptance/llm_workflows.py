"""An agent with tools side by side, and one irreversible: its model and the effects of its tools are model_server.py.

Run as ``python -m tests.acceptance.llm_workflows STORE``: starts the run, or goes on with it, and prints its result.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import urllib.request

from pydantic import BaseModel

from cadenza import Agent, Context, Engine, EngineOptions, step, tool, workflow
from tests.acceptance.model_server import Reply, turns

PATIENCE_S = 60


class Quote(BaseModel):
    item: str
    price: int


def count(name: str) -> None:
    """Say that a tool has done something."""
    url = os.environ["OPENAI_BASE_URL"].removesuffix("/v1") + "/effects"
    body = json.dumps({"name": name, "key": step.key()}).encode()
    with urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": "application/json"})) as answer:
        answer.read()


@tool
def fast(item: str) -> int:
    """The price of an item."""
    count("fast")
    return len(item)


@tool
def slow(item: str) -> str:
    """Whether an item is in stock."""
    count("slow")
    return f"{item}: yes"


@tool(effect="irreversible")
def pay(amount: int) -> str:
    """Pay."""
    count("pay")
    return f"paid {amount}"


buyer = Agent(
    "buyer", model="openai-chat:gpt-test", instructions="Buy it.", tools=[fast, slow, pay], output=Quote, input=str
)


@workflow
async def purchase(ctx: Context, item: str) -> str:
    quote: Quote = await ctx.call(buyer, item)
    return f"{quote.item} for {quote.price}"


SCRIPT = turns(
    Reply(calls=[("a", "fast", {"item": "book"}), ("b", "slow", {"item": "book"})]),
    Reply(calls=[("a", "pay", {"amount": 4})]),
    Reply(calls=[("z", "final_result", {"item": "book", "price": 4})]),
)
RESULT = "book for 4"


async def main(store: str) -> None:
    options = EngineOptions(adopt_all=True, linger_s=0.0, poll_idle_s=0.01)
    async with Engine.open(store, options) as engine:
        handle = await engine.start(purchase, "book", id="the purchase", on_conflict="join")
        async with asyncio.timeout(PATIENCE_S):
            print(await handle.result())


if __name__ == "__main__":
    from tests.acceptance import llm_workflows

    asyncio.run(llm_workflows.main(sys.argv[1]))
