"""The registry in the catalogue: what a restart and other processes know, heartbeats, probes, recovery."""

import asyncio
import dataclasses
import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from cadenza import Context, Engine, EngineOptions, workflow
from cadenza.agents.agent import AnyAgent
from cadenza.agents.card import Card, Skill
from cadenza.agents.function import agent
from cadenza.durable.define import step
from cadenza.engine.catalogue import Catalogue, catalogue_of_step
from cadenza.routing import health, kept, late
from cadenza.routing.registry import Registry, registry
from tests.acceptance.http_world import Answered, serving

QUIET = EngineOptions(worker=False)
SECOND = 1_000_000


def on_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


class Clock:
    def __init__(self) -> None:
        self.at = 1_800_000_000 * SECOND

    def __call__(self) -> int:
        return self.at

    def pass_s(self, seconds: float) -> None:
        self.at += round(seconds * SECOND)


class Carded:
    """An agent with a ready card."""

    card: Card = Card("kept")

    def __init__(self, name: str, version: str = "1", **fields: Any) -> None:
        self.card = Card(name, version=version, **fields)
        self.name = name

    def invoke(self, ctx: Any, input: Any) -> Any:
        raise NotImplementedError


def one(name: str, **fields: Any) -> dict[str, AnyAgent]:
    return {name: Carded(name, **fields)}


@pytest.fixture
def clock() -> Clock:
    return Clock()


def keys(found: Any) -> list[str]:
    return [each.key for each in found]


@on_loop
async def test_a_restart_knows_what_it_knew(tmp_path: Path, clock: Clock) -> None:
    skills = (Skill("research", "Finds facts.", ("web",), ("Who owns ACME?",)),)
    before = Registry(one("kept_a", skills=skills, placement=("eu",), owner="team", requests_per_minute=5), clock)
    async with Engine.open(tmp_path / "c.db", QUIET) as engine:
        keeper = kept.Keeper(engine.catalogue, "w1")
        keeper.beat(before.own(), clock())
        clock.pass_s(1)
        keeper.leave(clock())
    after = Registry({}, clock)
    async with Engine.open(tmp_path / "c.db", QUIET) as engine:
        [known] = after.instances(engine.catalogue)
        assert known.card == before.own()[0].card
        assert (known.agent, known.owner, known.last_seen_at) == (None, "team", clock())
        assert (known.healthy, known.problem) == (False, kept.GONE)
        assert not after.find(skill="research", catalogue=engine.catalogue)
        assert keys(after.find(skill="research", here=False, catalogue=engine.catalogue)) == ["kept_a@1/"]
        [again] = Registry(one("kept_a"), clock).instances(engine.catalogue)
        assert again.agent is not None
        assert again.healthy


@on_loop
async def test_two_workers_of_one_file_see_each_other(tmp_path: Path, clock: Clock) -> None:
    here, there = Registry(one("kept_here"), clock), Registry(one("kept_there"), clock)
    async with Engine.open(tmp_path / "c.db", QUIET) as engine:
        other = Catalogue(tmp_path / "c.db")
        mine, theirs = kept.Keeper(engine.catalogue, "w1"), kept.Keeper(other, "w2")
        locks = [held(tmp_path / "c.db-locks", name) for name in ("w1", "w2")]
        mine.beat(here.own(), clock())
        assert keys(there.instances(other)) == ["kept_there@1/", "kept_here@1/"]
        assert keys(here.instances(engine.catalogue)) == ["kept_here@1/"]
        theirs.beat(there.own(), clock())
        clock.pass_s(2)
        both = here.instances(engine.catalogue)
        assert keys(both) == ["kept_here@1/", "kept_there@1/"]
        assert [(each.healthy, each.workers, each.agent is not None) for each in both] == [
            (True, 1, True), (True, 1, False),
        ]  # fmt: skip
        assert here.instances(engine.catalogue) is both
        for each in locks:
            each.release()
        other.close()


def held(folder: Path, name: str) -> Any:
    from cadenza.engine.lease import FileLock

    return FileLock(folder, name)


@on_loop
async def test_a_silent_process_is_stale_and_comes_back(tmp_path: Path, clock: Clock) -> None:
    async with Engine.open(tmp_path / "c.db", QUIET) as engine:
        lock = held(tmp_path / "c.db-locks", "w1")
        keeper, own = kept.Keeper(engine.catalogue, "w1"), Registry(one("kept_quiet"), clock).own()
        keeper.beat(own, clock())
        looking = Registry({}, clock)
        assert looking.instances(engine.catalogue)[0].healthy
        clock.pass_s(kept.STALE_S + 1)
        [stale] = looking.instances(engine.catalogue)
        assert (stale.healthy, stale.workers) == (False, 0)
        keeper.beat(own, clock())
        clock.pass_s(2)
        [back] = looking.instances(engine.catalogue)
        assert (back.healthy, back.workers, back.problem) == (True, 1, "")
        lock.release()
        clock.pass_s(2)
        assert not looking.instances(engine.catalogue)[0].healthy, "its lock is free: it is gone at once"


@on_loop
async def test_a_changed_card_replaces_the_old_one_and_old_rows_are_forgotten(tmp_path: Path, clock: Clock) -> None:
    async with Engine.open(tmp_path / "c.db", QUIET) as engine:
        keeper = kept.Keeper(engine.catalogue, "w1")
        keeper.beat(Registry(one("kept_card"), clock).own(), clock())
        looking = Registry({}, clock)
        assert looking.instances(engine.catalogue)[0].card.description == ""
        keeper.beat(Registry(one("kept_card", description="Better now."), clock).own(), clock())
        clock.pass_s(2)
        assert looking.instances(engine.catalogue)[0].card.description == "Better now."
        keeper.beat(Registry(one("kept_card", version="2"), clock).own(), clock())
        clock.pass_s(2)
        assert keys(looking.instances(engine.catalogue)) == ["kept_card@1/", "kept_card@2/"]
        clock.pass_s(31 * 86_400)
        keeper.beat(Registry(one("kept_card", version="2"), clock).own(), clock())
        clock.pass_s(2)
        assert keys(looking.instances(engine.catalogue)) == ["kept_card@2/"]
        assert kept.forget(engine.catalogue, "kept_card@2/")
        assert not kept.forget(engine.catalogue, "kept_card@2/")


@on_loop
async def test_what_is_silent_for_long_is_buried_by_those_who_beat(tmp_path: Path, clock: Clock) -> None:
    async with Engine.open(tmp_path / "c.db", QUIET) as engine:
        kept.Keeper(engine.catalogue, "killed").beat(Registry(one("kept_orphan"), clock).own(), clock())
        last = clock()
        clock.pass_s(100)
        kept.Keeper(engine.catalogue, "living").beat((), clock())
        assert engine.catalogue.read("SELECT worker FROM registry_worker") == [("living",)]
        assert engine.catalogue.read("SELECT key, seen_at FROM registry_instance") == [("kept_orphan@1/", last)]


@on_loop
async def test_ten_thousand_agents_beat_with_one_row(tmp_path: Path, clock: Clock) -> None:
    own = Registry({f"kept{n}": Carded(f"kept{n}") for n in range(10_000)}, clock).own()
    async with Engine.open(tmp_path / "c.db", QUIET) as engine:
        keeper = kept.Keeper(engine.catalogue, "w1")
        keeper.beat(own, clock())
        before = engine.catalogue.write(lambda db: db.total_changes())
        keeper.beat(own, clock())
        assert engine.catalogue.write(lambda db: db.total_changes()) - before <= 2  # REPLACE counts twice
        looking = Registry({}, clock)
        assert len(looking.instances(engine.catalogue)) == 10_000
        index = looking._index(looking._all(engine.catalogue))  # pyright: ignore[reportPrivateUsage]
        clock.pass_s(kept.STALE_S + 1)
        again = looking._all(engine.catalogue)  # pyright: ignore[reportPrivateUsage]
        assert not again[0].healthy
        assert looking._index(again) is index, "health alone costs no new index"  # pyright: ignore[reportPrivateUsage]


@on_loop
async def test_an_instance_with_a_health_url_is_asked_and_recovers(tmp_path: Path, clock: Clock) -> None:
    with serving() as world:
        mine = Registry({}, clock)
        made = mine.add(Carded("kept_http"), instance="eu-1", health_url=f"{world.url}/healthz")
        async with Engine.open(tmp_path / "c.db", QUIET) as engine:
            kept.Keeper(engine.catalogue, "w1").beat(mine.own(), clock())
            seen: list[tuple[bool, str]] = []
            for answer in (Answered(200, {}), Answered(503, {"state": "ill"}), Answered(drop=True), Answered(204)):
                world.answer = lambda _, answer=answer: answer
                clock.pass_s(kept.BEAT_S)
                await health.probe_due(mine, engine.catalogue)
                mine.refresh(engine.catalogue)
                found = mine.instance(made.key, engine.catalogue)
                assert found is not None
                seen.append((found.healthy, found.problem.partition("/healthz")[2]))
            assert [each for each, _ in seen] == [True, False, False, True]
            assert seen[1][1].startswith(" answered 503")
            assert "disconnected" in seen[2][1] or "closed" in seen[2][1] or "reset" in seen[2][1].lower()
            asked = len(world.asked)
            await health.probe_due(mine, engine.catalogue)
            assert len(world.asked) == asked, "nobody asks twice within a beat"
    assert (await health.probe(dataclasses.replace(made, health_url="http://127.0.0.1:9/"), clock)).problem  # type: ignore[union-attr]
    assert await health.probe(mine.add(Carded("kept_unasked")), clock) is None


WORKER = """
import asyncio, sys
from pathlib import Path
from cadenza import Engine, EngineOptions, agent
from cadenza.routing import late

late.FIRST_S = 0.0

@agent(name="kept_elsewhere", placement=("eu",), owner="them")
def kept_elsewhere(text: str) -> str:
    "Runs in another process."
    return text

async def main():
    async with Engine.open(sys.argv[1], EngineOptions(adopt_all=True)):
        print("open", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

asyncio.run(main())
"""


@step(effect="read")
def kept_look() -> list[str]:
    return [each.key for each in registry.instances() if each.card.name == "kept_elsewhere" and each.healthy]


@workflow
async def kept_flow(ctx: Context) -> list[str]:
    return await ctx.step(kept_look)


@workflow
async def kept_in_workflow(ctx: Context) -> list[bool]:
    before = catalogue_of_step() is None
    await ctx.step(kept_look)
    return [before, catalogue_of_step() is None]


@on_loop
async def test_workflow_code_never_reads_the_catalogue(tmp_path: Path) -> None:
    async with Engine.open(tmp_path / "c.db") as engine:
        assert await (await engine.start(kept_in_workflow)).result() == [True, True]


@agent(name="kept_own")
def kept_own(text: str) -> str:
    """Runs here."""
    return text


@on_loop
async def test_a_step_sees_the_agents_of_another_process_until_it_dies(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    async with Engine.open(path) as engine:
        other = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        found: list[str] = []
        until = time.monotonic() + 60
        while not found and time.monotonic() < until:
            found = await (await engine.start(kept_flow)).result()
            await asyncio.sleep(0.05)
        assert found == ["kept_elsewhere@1/"]
        [instance] = [each for each in registry.instances(engine.catalogue) if each.key == found[0]]
        assert (instance.agent, instance.owner, instance.workers) == (None, "them", 1)
        os.kill(other.pid, signal.SIGKILL)
        other.communicate()
        registry.refresh(engine.catalogue)
        [instance] = [each for each in registry.instances(engine.catalogue) if each.key == found[0]]
        assert (instance.healthy, instance.problem) == (False, kept.GONE)


@on_loop
async def test_a_worker_beats_for_its_agents_and_signs_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(late, "FIRST_S", 0.0)
    own = [each for each in registry.own() if each.key == "kept_own@1/"]
    monkeypatch.setattr(registry, "own", lambda: tuple(own))
    async with Engine.open(tmp_path / "c.db") as engine:
        rows: list[Any] = []
        until = time.monotonic() + 60
        while not rows and time.monotonic() < until:
            await asyncio.sleep(0.02)
            present = "SELECT 1 FROM sqlite_schema WHERE name = 'registry_change'"
            if engine.catalogue.read(present):
                rows = engine.catalogue.read("SELECT key, worker FROM registry_hosted")
        assert rows == [("kept_own@1/", engine.owner)]
    async with Engine.open(tmp_path / "c.db", QUIET) as engine:
        assert not engine.catalogue.read("SELECT * FROM registry_worker")
        assert engine.catalogue.read("SELECT key FROM registry_instance") == [("kept_own@1/",)]
