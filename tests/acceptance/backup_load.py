"""A process that starts and runs workflows all the time: ``python -m tests.acceptance.backup_load FILE``.

It goes on until a file ``stop`` lies beside FILE; then it lets everything end.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from cadenza import Context, Engine, Retry, step, workflow

AT_ONCE = 8


@step(effect="read")
async def look(number: int) -> int:
    await asyncio.sleep(0.001)
    return number * 2


@step
async def page(number: int) -> str:
    return await step.memo("text", lambda: f"{number} " * 6_000)


@step(retry=Retry(attempts=3, delay_s=0.001))
async def count(text: str) -> int:
    if step.attempt() == 1:
        raise ConnectionError("once")
    return len(text.split())


@workflow
async def part(ctx: Context, number: int) -> int:
    await asyncio.sleep(0.005)
    return await ctx.step(look, number)


@workflow
async def whole(ctx: Context, number: int) -> int:
    found = await asyncio.gather(ctx.step(look, number), ctx.run(part, number))
    text = await ctx.step(page, number)
    return sum(found) + await ctx.step(count, text)


def result(number: int) -> int:
    """What ``whole`` comes to."""
    return 4 * number + 6_000


async def main(file: Path) -> None:
    stop = file.with_name("stop")
    async with Engine.open(file) as engine:
        numbers = iter(range(1_000_000))

        async def serve() -> None:
            while not stop.exists():
                await (await engine.start(whole, next(numbers))).result()

        await asyncio.gather(*[serve() for _ in range(AT_ONCE)])


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
