"""Pools grow with the age of their queue, and shrink when there is nothing to do."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from cadenza import testing
from cadenza.errors import DefinitionError, Overloaded
from cadenza.routing.pool import Pool, PoolOptions


class Maker:
    """Makes numbers."""

    def __init__(self) -> None:
        self.made, self.ended = 0, list[int]()

    async def make(self) -> int:
        await asyncio.sleep(1)
        self.made += 1
        return self.made

    async def end(self, number: int) -> None:
        self.ended.append(number)


def lived(options: PoolOptions, work: Callable[[Pool[int], Maker], Awaitable[None]]) -> None:
    async def main() -> None:
        async with testing.environment():  # for its virtual time
            maker = Maker()
            pool = Pool("numbers", maker.make, maker.end, options)
            await work(pool, maker)
            await pool.close()
            assert sorted(maker.ended) == list(range(1, maker.made + 1))
            assert pool.size == 0

    asyncio.run(main())


async def use(pool: Pool[int], for_s: float) -> int:
    async with pool.instance() as number:
        await asyncio.sleep(for_s)
        return number


def test_a_queue_that_gets_old_brings_instances_up_to_the_most() -> None:
    async def work(pool: Pool[int], maker: Maker) -> None:
        calls = [asyncio.ensure_future(use(pool, 100)) for _ in range(10)]
        await asyncio.sleep(4)
        assert pool.size == 1  # nobody has waited for five seconds yet
        await asyncio.sleep(3)
        assert pool.size == 2
        await asyncio.sleep(60)
        assert pool.size == 3
        await asyncio.gather(*calls)
        assert maker.made == 3

    lived(PoolOptions(most=3, grow_after_s=5), work)


def test_a_queue_that_stays_young_brings_none() -> None:
    async def work(pool: Pool[int], maker: Maker) -> None:
        for _ in range(10):
            await asyncio.gather(*(use(pool, 1) for _ in range(3)))
        assert maker.made == 1

    lived(PoolOptions(most=3, grow_after_s=5), work)


def test_idle_instances_go_down_to_the_least() -> None:
    async def work(pool: Pool[int], maker: Maker) -> None:
        await asyncio.gather(*(use(pool, 20) for _ in range(3)))
        assert pool.size == 3
        await asyncio.sleep(61)
        assert pool.size == 1
        assert len(maker.ended) == 2

    lived(PoolOptions(least=1, most=3, grow_after_s=1), work)


def test_an_instance_whose_work_failed_is_replaced() -> None:
    async def work(pool: Pool[int], maker: Maker) -> None:
        with pytest.raises(ValueError, match="broken"):
            async with pool.instance():
                raise ValueError("broken")
        assert await use(pool, 1) == 2
        assert maker.ended == [1]

    lived(PoolOptions(), work)


def test_whoever_waits_is_served_also_if_the_only_instance_has_failed() -> None:
    async def work(pool: Pool[int], maker: Maker) -> None:
        async def fail() -> None:
            async with pool.instance():
                await asyncio.sleep(2)
                raise ValueError("broken")

        failing = asyncio.ensure_future(fail())
        await asyncio.sleep(0.5)
        assert await use(pool, 1) == 2
        with pytest.raises(ValueError, match="broken"):
            await failing

    lived(PoolOptions(most=1), work)


def test_the_queue_of_a_pool_is_bounded() -> None:
    async def work(pool: Pool[int], maker: Maker) -> None:
        calls = [asyncio.ensure_future(use(pool, 10)) for _ in range(3)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(results[2], Overloaded)

    lived(PoolOptions(most=1, queue_max=1), work)


def test_bounds_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(DefinitionError, match="0 <= least <= most"):
        PoolOptions(least=3, most=2)
