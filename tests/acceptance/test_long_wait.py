"""A person answers after 30 days, and the code was upgraded twice meanwhile: nothing before the question runs again.

Real processes on one file, each with the code of its day; days are virtual. That of the second version is killed.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cadenza.durable import events
from cadenza.engine.sqlite.store import SQLiteStore

ROOT = Path(__file__).parents[2]

V1 = '''
"""Orders of a shop."""
import asyncio
from pathlib import Path
from cadenza import Agent, Context, HumanTask, step, workflow

VERSION = 1

def log(what: str) -> None:
    with Path("effects.log").open("a") as file:
        file.write(f"v{VERSION} {what}\\n")

@step(effect="irreversible")
async def reserve(order: str) -> str:
    log(f"reserve {order}")
    return f"seat of {order}"

@step(effect="read")
async def price(order: str) -> int:
    log(f"price {order}")
    return 100

drafter = Agent("drafter", model="openai:gpt-5-nano", instructions="Draft an offer.")

@step
async def remind(order: str, day: int) -> str:
    log(f"remind {order} on day {day}")
    return "sent"

@step
async def ship(order: str, seat: str, cents: int) -> str:
    log(f"ship {order}")
    return f"shipped {order}: {seat} for {cents}"

@workflow
async def order(ctx: Context, name: str) -> str:
    began = ctx.now()
    # before
    seat, cents = await asyncio.gather(ctx.step(reserve, name), ctx.step(price, name))
    offer = await ctx.call(drafter, name)
    asking = asyncio.ensure_future(ctx.ask(HumanTask(title="Buy it?", details={"offer": offer})))
    while True:
        try:
            async with asyncio.timeout(7 * 86_400):
                answer = await asyncio.shield(asking)
            break
        except TimeoutError:
            await ctx.step(remind, name, (ctx.now() - began).days)
    # after
    return await ctx.step(ship, name, seat, cents)
'''

V2 = (
    V1.replace("VERSION = 1", "VERSION = 2")
    .replace("    # before\n", '    if ctx.patched("stock"):\n        await ctx.step(stock, name)\n')
    .replace(
        "@step\nasync def remind",
        '@step\nasync def stock(order: str) -> None:\n    log(f"stock {order}")\n\n\n@step\nasync def remind',
    )
    .replace("    # after\n", "    await ctx.step(remind, name, 0)\n")
    .replace("Draft an offer.", "Draft a friendly offer.")
)

V3 = (
    V2.replace("VERSION = 2", "VERSION = 3")
    .replace("    await ctx.step(remind, name, 0)\n", '    if not answer.approved:\n        return "released"\n')
    .replace('return f"shipped', 'return f"sent')
)  # fmt: skip

DAYS = '''
"""One process of the shop: what happens on its days."""
import asyncio, os, signal, sys
from datetime import UTC, datetime, timedelta
from cadenza import Answer, testing
import shop

async def main(part: str) -> None:
    day = {"begin": 0, "middle": 10, "look": 12, "end": 20}[part]
    start = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=day)
    async with testing.environment(start=start, store="shop.db") as env:
        model = env.model("drafter", ["An offer."] if part == "begin" else [])
        if part == "begin":
            run = await env.start(shop.order, "tea", id="tea")
            assert (await env.asked(run)).details == {"offer": "An offer."}
        await env.advance(timedelta(days=10))
        if part == "look":
            print(env.find("tea").status, env.find("tea").detail)
        if part == "middle":
            os.kill(os.getpid(), signal.SIGKILL)
        if part == "end":
            await env.answer("tea", Answer(approved=True, by="ann"))
            print(await env.handle("tea").result(), env.now.date())
        assert len(model.requests) == (part == "begin")

asyncio.run(main(sys.argv[1]))
'''


def day(folder: Path, code: str, part: str) -> subprocess.CompletedProcess[str]:
    """Deploy `code`, and let a process live through its part of the days."""
    (folder / "shop.py").write_text(code, encoding="utf-8")
    (folder / "days.py").write_text(DAYS, encoding="utf-8")
    command = [sys.executable, "-B", "-W", "error", "days.py", part]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False, env=os.environ)


@pytest.mark.slow
@pytest.mark.sigkill
def test_a_person_answers_after_thirty_days_and_two_upgrades(tmp_path: Path) -> None:
    begun = day(tmp_path, V1, "begin")
    assert begun.returncode == 0, begun.stderr
    killed = day(tmp_path, V2, "middle")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    ended = day(tmp_path, V3, "end")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == "sent tea: seat of tea for 100 2026-01-31"
    assert (tmp_path / "effects.log").read_text().splitlines() == [
        "v1 price tea",
        "v1 reserve tea",
        "v1 remind tea on day 7",
        "v2 remind tea on day 14",
        "v3 remind tea on day 21",
        "v3 remind tea on day 28",
        "v3 ship tea",
    ]
    journal = journal_of(tmp_path / "shop.db")
    assert len([each for each in journal if isinstance(each, events.MemoSaved)]) == 1  # one request to the model
    (answered,) = [each for each in journal if isinstance(each, events.TaskAnswered)]
    assert (answered.at - journal[0].at) / 86_400e6 == pytest.approx(30, abs=0.01)


def journal_of(path: Path) -> list[events.AnyEvent]:
    store = SQLiteStore(path)
    try:
        row = store.run("tea")
        assert row is not None
        return store.events(row.no)
    finally:
        store.close()


@pytest.mark.slow
def test_a_change_before_the_question_without_patched_blocks_the_run_and_runs_nothing(tmp_path: Path) -> None:
    assert day(tmp_path, V1, "begin").returncode == 0
    before = (tmp_path / "effects.log").read_text()
    careless = V2.replace('if ctx.patched("stock"):', "if True:").replace("VERSION = 2", "VERSION = 9")
    blocked = day(tmp_path, careless, "look")
    assert blocked.returncode == 0, blocked.stderr
    assert blocked.stdout.startswith("blocked"), blocked.stdout
    assert "stock" in blocked.stdout
    assert (tmp_path / "effects.log").read_text() == before
    ended = day(tmp_path, V3, "end")
    assert ended.returncode == 0, ended.stderr
    assert "sent tea" in ended.stdout
