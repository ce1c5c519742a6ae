"""Error workflows are started once, in the transaction of the failure, on both stores."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from cadenza import Context, Engine, EngineOptions, FailedRun, RunCancelled, RunFailed, workflow
from cadenza.engine.filter import Filter

TOLD: list[FailedRun] = []


@workflow
async def handler(ctx: Context, failed: FailedRun) -> str:
    if ctx.generation == 0 and not ctx.replaying:
        TOLD.append(failed)
    return failed.error


@workflow(on_failure=handler)
async def fails(ctx: Context, what: str) -> str:
    if what == "wait":
        return await ctx.receive("go", str)
    if what == "child":
        return await ctx.run(fails, "now")
    raise ValueError(f"no {what}")


@workflow(on_failure="never:deployed")
async def unhandled(ctx: Context) -> None:
    raise ValueError("no")


@workflow(on_failure="broken_handler")
async def badly_handled(ctx: Context) -> None:
    raise ValueError("no")


def no_key(value: object) -> str:
    raise ValueError


@workflow(on_failure=handler, concurrency=1, concurrency_key=no_key)
async def broken_handler(ctx: Context, failed: FailedRun) -> None:
    raise KeyError(failed.run_id)


@pytest.fixture(params=["memory", "sqlite"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str | Path:
    TOLD.clear()
    return ":memory:" if request.param == "memory" else tmp_path / "s.db"


def run(location: str | Path, what: Any, *arguments: Any, id: str = "") -> list[tuple[str, str, str]]:
    """All runs at the end: the workflow's name, status and whose handler it is."""

    async def main() -> list[tuple[str, str, str]]:
        async with Engine.open(location, EngineOptions(verify_replay=True)) as engine:
            handle = await engine.start(what, *arguments, id=id)
            with pytest.raises(RunFailed):
                await handle.result()
            while any(not row.ended and row.status != "blocked" for row in engine.runs()):
                await asyncio.sleep(0)
            return [
                (row.workflow.partition(":")[2], row.status, row.parent_path) for row in engine.runs(Filter())[::-1]
            ]

    return asyncio.run(main())


def test_a_failure_starts_its_handler_with_what_happened(location: str | Path) -> None:
    rows = run(location, fails, "now", id="order-7")
    assert rows == [("fails", "failed", ""), ("handler", "completed", "@on_failure#2")]
    (told,) = TOLD
    assert (told.workflow, told.business_id, told.error_type) == (fails.name, "order-7", "builtins:ValueError")
    assert "no now" in told.error


def test_each_run_of_a_family_has_its_own_handler(location: str | Path) -> None:
    rows = run(location, fails, "child")
    assert sorted(each[:2] for each in rows) == [("fails", "failed")] * 2 + [("handler", "completed")] * 2
    assert {told.run_id.count(".") for told in TOLD} == {0, 1}


def test_a_handler_that_fails_has_no_handler(location: str | Path) -> None:
    rows = run(location, badly_handled)
    assert [each[:2] for each in rows] == [("badly_handled", "failed"), ("broken_handler", "failed")]


def test_a_handler_that_nobody_knows_waits_for_a_deploy(location: str | Path) -> None:
    assert run(location, unhandled)[1][1] == "blocked"


def test_a_cancelled_run_starts_no_handler(location: str | Path) -> None:
    async def main() -> None:
        async with Engine.open(location) as engine:
            handle = await engine.start(fails, "wait")
            await handle.settled()
            await handle.cancel()
            with pytest.raises(RunCancelled):
                await handle.result()
            assert [row.status for row in engine.runs()] == ["cancelled"]

    asyncio.run(main())
