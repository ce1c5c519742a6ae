"""Updates are validated, handled once and answered, on both stores and from other processes."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from cadenza import Context, Engine, EngineOptions, RunHandle, step, workflow
from cadenza.durable import events
from cadenza.errors import UpdateFailed, UpdateRefused, UsageError

CALLS: list[str] = []


class Rules:
    maximum = 10


@step
async def reserve(item: str) -> str:
    CALLS.append(item)
    return f"{item} reserved"


@workflow
async def basket(ctx: Context, limit: int) -> list[str]:
    items = list[str]()

    def check(item: str) -> None:
        if len(item) > Rules.maximum:
            raise ValueError(f"{item!r} is too long")

    async def add(item: str) -> dict[str, object]:
        if item == "bomb":
            raise ValueError("no bombs")
        if item == "later":
            return {"got": await ctx.receive("later", str)}
        reserved = await ctx.step(reserve, item)
        items.append(item)
        return {"said": reserved, "count": len(items)}

    ctx.on_update("add", add, type=str, validate=check)
    ctx.on_update("count", lambda _: len(items))
    ctx.view("items", lambda: items)
    while len(items) < limit:
        await ctx.receive("tick")
    if items[-1] == "again":
        ctx.continue_as_new(limit)
    return items


@pytest.fixture(params=["memory", "sqlite"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str | Path:
    CALLS.clear()
    return ":memory:" if request.param == "memory" else tmp_path / "s.db"


def test_an_update_is_answered_with_what_its_handler_returns(location: str | Path) -> None:
    async def main() -> None:
        async with Engine.open(location, EngineOptions(verify_replay=True)) as engine:
            handle = await engine.start(basket, 2)
            assert await handle.update("add", "tea") == {"said": "tea reserved", "count": 1}
            assert await handle.update("count") == 1
            several = await asyncio.gather(*(handle.update("count") for _ in range(20)))
            assert several == [1] * 20
            assert await handle.update("add", "milk", key="k") == {"said": "milk reserved", "count": 2}
            assert await handle.update("add", "milk", key="k") == {"said": "milk reserved", "count": 2}
            await handle.signal("tick")
            assert await handle.result() == ["tea", "milk"]
            assert await handle.update("add", "milk", key="k") == {"said": "milk reserved", "count": 2}
            assert CALLS == ["tea", "milk"]
            with pytest.raises(UsageError, match="nothing was sent"):
                await handle.update("count")

    asyncio.run(main())


def test_a_refused_update_has_changed_nothing(
    location: str | Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with Engine.open(location, EngineOptions(linger_s=0.0, verify_replay=True)) as engine:
            handle = await engine.start(basket, 1)
            with pytest.raises(UpdateRefused, match="is too long"):
                await handle.update("add", "a very long item")
            with pytest.raises(UpdateRefused, match="does not fit its type"):
                await handle.update("add", 5)
            with pytest.raises(UpdateRefused, match="no update of this run is named 'ad'"):
                await handle.update("ad", "tea")
            with pytest.raises(UsageError, match="is no name"):
                await handle.update("a b")
            assert CALLS == []
            assert not any(isinstance(event, events.UpdateAccepted) for event in engine.journal(handle.run_id))
            monkeypatch.setattr(Rules, "maximum", 100)  # what was refused stays refused when it is replayed
            await handle.settled()
            assert await handle.update("add", "another long item") == {"said": "another long item reserved", "count": 1}
            monkeypatch.setattr(Rules, "maximum", 0)  # and what was accepted, accepted
            await handle.settled()
            await handle.signal("tick")
            assert await handle.result() == ["another long item"]
            refused = [each for each in engine.journal(handle.run_id) if isinstance(each, events.UpdateAnswered)]
            assert [each.refused for each in refused] == [True, True, True, False]

    asyncio.run(main())
    assert "not deterministic" not in caplog.text


def test_a_handler_that_raises_is_told_and_the_run_goes_on(location: str | Path) -> None:
    async def main() -> None:
        async with Engine.open(location) as engine:
            handle = await engine.start(basket, 1)
            with pytest.raises(UpdateFailed, match="no bombs"):
                await handle.update("add", "bomb")
            assert (await handle.update("add", "tea"))["count"] == 1
            await handle.signal("tick")
            assert await handle.result() == ["tea"]

    asyncio.run(main())


def test_a_handler_may_wait_and_its_answer_outlives_the_caller(location: str | Path) -> None:
    async def main() -> None:
        async with Engine.open(location, EngineOptions(linger_s=0.0)) as engine:
            handle = await engine.start(basket, 1)
            with pytest.raises(UpdateFailed, match="ask again with the key 'k'"):
                await handle.update("add", "later", key="k", timeout_s=0.05)
            await handle.settled()
            await handle.signal("later", "now")
            assert await handle.update("add", "later", key="k") == {"got": "now"}

    asyncio.run(main())


@pytest.mark.parametrize("last", ["tea", "again"])
def test_an_update_that_is_never_answered_is_told(location: str | Path, last: str) -> None:
    async def main() -> None:
        async with Engine.open(location) as engine:
            handle: RunHandle[list[str]] = await engine.start(basket, 1)
            await handle.update("add", last)
            waits = asyncio.create_task(handle.update("add", "later"))
            while not any(getattr(event, "value", b"") == b'"later"' for event in engine.journal(handle.run_id)):
                await asyncio.sleep(0)
            await handle.signal("tick")
            with pytest.raises(UpdateFailed, match="without an answer"):
                await waits
            if last == "again":
                assert await handle.update("count") == 0

    asyncio.run(main())


def test_a_run_that_nobody_drives_gives_no_answer_in_time(tmp_path: Path) -> None:
    async def main() -> None:
        async with Engine.open(tmp_path / "s.db", EngineOptions(worker=False)) as engine:
            handle = await engine.start(basket, 1)
            with pytest.raises(UpdateFailed, match="no worker has taken the run up"):
                await engine.update(handle.run_id, "count", timeout_s=0.01)

    asyncio.run(main())


def test_another_process_is_answered_by_a_worker(tmp_path: Path) -> None:
    code = """
from cadenza import *
@workflow
async def shop(ctx: Context) -> int:
    total = 0
    def pay(amount: int) -> int:
        nonlocal total
        total += amount
        return total
    def check(amount: int) -> None:
        if amount < 0:
            raise ValueError("give, do not take")
    ctx.on_update("pay", pay, type=int, validate=check)
    return await ctx.receive("go", int)
"""
    (tmp_path / "shop.py").write_text(code, encoding="utf-8")
    cadenza = [str(Path(sys.executable).with_name("cadenza"))]

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*cadenza, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)

    call("run", "shop.py", "--id", "o")
    worker = subprocess.Popen([*cadenza, "worker", "shop.py"], cwd=tmp_path, stderr=subprocess.DEVNULL)
    try:
        assert json.loads(call("update", "o", "pay", "5", "--key", "a").stdout) == 5
        assert json.loads(call("update", "o", "pay", "5", "--key", "a").stdout) == 5
        assert json.loads(call("update", "o", "pay", "2").stdout) == 7
        refused = call("update", "o", "pay", "--", "-1")
        assert (refused.returncode, "give, do not take" in refused.stderr) == (2, True), refused.stderr
    finally:
        worker.kill()
        worker.wait()
    late = call("update", "o", "pay", "1", "--timeout", "0.1")
    assert late.returncode == 1
    assert "ask again with the key" in late.stderr
