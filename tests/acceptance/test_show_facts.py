"""What ``cadenza show`` says of a run beside its steps: attributes, updates, timers, and who paid for what."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cadenza import Context, Engine, RunFailed, UpdateRefused, step, workflow
from cadenza.agents.usage import total
from cadenza.cli.history import History, read_history
from cadenza.cli.history_json import history_json
from cadenza.cli.show import facts
from cadenza.cli.tree_view import tree_lines
from cadenza.durable.scope import current_scope

REQUEST: dict[str, Any] = {
    "agent": "show_thinker",
    "price_usd": 0.5,
    "latency_s": 1.0,
    "response": {"model_name": "m", "usage": {"input_tokens": 10, "output_tokens": 5}},
}
broken: list[bool] = []


@step
async def show_thinks() -> str:
    """Asks its model twice; the second time goes wrong while it is broken."""
    scope: Any = current_scope.get()
    await scope.memo("request/1", lambda: REQUEST, "idempotent", None)
    if broken:
        raise ValueError("no answer")
    await scope.memo("request/2", lambda: REQUEST, "idempotent", None)
    return "thought"


@workflow
async def show_paying(ctx: Context) -> str:
    return await ctx.step(show_thinks)


@workflow
async def show_basket(ctx: Context) -> None:
    def check(item: str) -> None:
        if item == "bomb":
            raise ValueError("not in this shop")

    def add(item: str) -> int:
        return len(item)

    ctx.on_update("add", add, type=str, validate=check)
    ctx.set_attributes(topic="refund", amount=3, gone=True)
    ctx.set_attributes(gone=None)
    await asyncio.sleep(3_600)


def lines(history: History) -> str:
    return "\n".join(each.plain for each in tree_lines(history, everything=True))


def test_the_total_of_a_retry_is_the_sum_of_its_rows_and_says_what_was_paid_before() -> None:
    async def main() -> None:
        async with Engine.open(":memory:") as engine:
            broken.append(True)
            failed = await engine.start(show_paying)
            with pytest.raises(RunFailed):
                await failed.result()
            broken.clear()
            again = await failed.retry()
            assert await again.result() == "thought"
            history = read_history(engine, again.row)
            (turn,) = [each for each in history.items() if each.kind == "step"]
            assert total(history.used()).requests == total(turn.used()).requests == 2
            assert total(history.used()).price_usd == 1.0
            assert dict(facts(history, set()))["models"].endswith("; 1 request of these by the run before")
            assert history_json(history, [], set())["copied_requests"] == 1
            assert "models" in dict(facts(read_history(engine, failed.row), set()))

    asyncio.run(main())


def test_attributes_updates_and_timers_are_shown() -> None:
    async def main() -> None:
        async with Engine.open(":memory:") as engine:
            handle = await engine.start(show_basket)
            assert await handle.update("add", "tea") == 3
            with pytest.raises(UpdateRefused):
                await handle.update("add", "bomb")
            row = await asyncio.wait_for(settled(engine, handle.run_id), 30)
            history = read_history(engine, row)
            known = dict(facts(history, set()))
            assert known["attributes"] == 'topic="refund", amount=3'
            assert known["wakes"].partition(", for ")[2].startswith("@"), known
            assert "answered: 3" in lines(history)
            assert "not in this shop" in lines(history)
            assert history_json(history, [], set())["attributes"] == {"topic": "refund", "amount": 3}

    async def settled(engine: Engine, run_id: str) -> Any:
        while (row := engine.find(run_id)).status != "waiting":
            await asyncio.sleep(0.01)
        return row

    asyncio.run(main())
