"""What a chosen LLM agent has cost is learned, and counts at the next choice."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import RequestUsage

from cadenza import Agent, Context, Engine, Need, Skill, workflow
from cadenza.routing.learned import learned_in


def answers(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    usage = RequestUsage(input_tokens=1_000_000, output_tokens=0)
    return ModelResponse([TextPart("done")], usage=usage)


class Priced(FunctionModel):
    """Answers as a model whose price is known."""

    async def request(self, *args: Any, **settings: Any) -> ModelResponse:
        return replace(await super().request(*args, **settings), model_name="gpt-4o", provider_name="openai")


Agent("rp-thinker", model=Priced(answers), skills=(Skill("rp-think"),))


@workflow
async def think_twice(ctx: Context, task: str) -> str:
    await ctx.call(Need(skill="rp-think"), task)
    return await ctx.call(Need(skill="rp-think"), task)


def test_the_price_of_requests_is_learned(tmp_path: Path) -> None:
    async def main() -> None:
        async with Engine.open(tmp_path / "s.db") as engine:
            assert await (await engine.start(think_twice, "it")).result() == "done"
            [record] = [r for r in learned_in(engine.catalogue).performance.dumped() if r.skill == "rp-think"]
            assert record.price_weight > 1.9
            assert abs(record.price_sum / record.price_weight - 2.5) < 0.01

    asyncio.run(main())
