"""Encryption at rest: no plaintext in the files, no way in without the key, and keys that change while workers run."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from cadenza import Answer, CadenzaError, Context, Engine, EngineOptions, HumanTask, RunFailed, step, workflow
from cadenza.engine.options import Alerts
from cadenza.engine.sqlite.backup import back_up
from cadenza.engine.sqlite.rotation import Rotated, rotate
from cadenza.engine.sqlite.sealing import KeyRing
from cadenza.engine.sqlite.store import SQLiteStore
from cadenza.engine.store import Filter
from cadenza.errors import KeyMissing, StoreCorrupt, UsageError
from tests.acceptance import backup_load
from tests.acceptance.commands import Project, until

ROOT = Path(__file__).parents[2]
SECRET = "marmalade"
OLD, NEW, WRONG = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2, 3))
BOTH = f"new:{NEW},old:{OLD}"
SECRETS = 20
"""So many runs and messages hold the secret at least; each is one place where it could be seen."""


@step
async def echo(text: str) -> str:
    await step.memo("part", lambda: f"a memo of {text}")
    return f"{text} again"


@step
async def broken(text: str) -> None:
    raise ValueError(f"no more {text}")


@workflow
async def talk(ctx: Context, text: str) -> str:
    said = await ctx.step(echo, text)
    large = await ctx.step(echo, f"{text} " * 3_000)
    heard = await ctx.receive("word", str)
    answer = await ctx.ask(HumanTask(title=f"More {text}?", details={"why": f"{text} is gone"}))
    rest = await ctx.run(child, text)
    return f"{said} {heard} {answer.comment} {rest} {len(large)}"


@workflow
async def child(ctx: Context, text: str) -> str:
    return await ctx.step(echo, text)


@workflow
async def failing(ctx: Context, text: str) -> None:
    await ctx.step(broken, text)


@workflow
async def waiting(ctx: Context, text: str) -> str:
    await ctx.ask(HumanTask(title=f"More {text}?"))
    return text


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets the environment's keys."""

    def give(one: str = "", several: str = "") -> None:
        monkeypatch.setenv("CADENZA_KEY", one)
        monkeypatch.setenv("CADENZA_KEYS", several)

    give()
    return give


def raw(path: Path) -> bytes:
    """All that lies on the disk of a store."""
    return b"".join(each.read_bytes() for each in path.parent.glob(f"{path.name}*") if each.is_file())


async def use(path: Path, look: Callable[[], None] = lambda: None) -> str:
    """Something of every kind, with the secret in it; one run is left waiting. ``look`` is called while all is open."""
    async with Engine.open(path, EngineOptions(linger_s=0.01)) as engine:
        handle = await engine.start(talk, SECRET)
        await engine.signal(handle.run_id, "word", f"a word of {SECRET}")
        await handle.settled()
        ((task, _),) = engine.tasks(handle.run_id)
        await engine.answer(handle.run_id, task.path, Answer(approved=True, comment=f"yes, {SECRET}", by="Ada"))
        result = await handle.result()
        with contextlib.suppress(CadenzaError):
            await (await engine.start(failing, SECRET)).result()
        gone = await engine.start(waiting, SECRET)
        await gone.settled()
        await gone.cancel(f"enough {SECRET}")
        with contextlib.suppress(CadenzaError):
            await gone.result()
        left = await engine.start(waiting, SECRET, id="left")
        await left.settled()
        look()
    return result


def journals(path: Path) -> dict[str, Any]:
    store = SQLiteStore(path)
    try:
        return {row.run_id: (row, store.events(row.no)) for row in store.runs(Filter(limit=100_000))}
    finally:
        store.close()


async def finish(path: Path) -> str:
    """Answer the run that was left, and let it end."""
    async with Engine.open(path) as engine:
        ((row, task),) = engine.tasks("left")
        assert task.title == f"More {SECRET}?"
        await engine.answer("left", row.path, Answer(approved=True))
        return await (await engine.resume("left")).result()


def test_no_plaintext_is_in_the_file_or_its_log(key: Callable[..., None], tmp_path: Path) -> None:
    sealed, plain = tmp_path / "sealed.db", tmp_path / "plain.db"
    seen: list[bytes] = []
    expected = asyncio.run(use(plain, lambda: seen.append(raw(plain))))
    key(NEW)
    assert asyncio.run(use(sealed, lambda: seen.append(raw(sealed)))) == expected
    while_open_plain, while_open = seen
    assert while_open_plain.count(SECRET.encode()) > SECRETS, "the test would see it"
    assert SECRET.encode() not in while_open
    assert SECRET.encode() not in raw(sealed)
    for row, journal in journals(sealed).values():
        assert row.workflow.endswith((":talk", ":child", ":failing", ":waiting"))
        assert SECRET in str(journal[0].input), "and it is there for whoever has the key"
    assert any(SECRET in row.detail for row, _ in journals(sealed).values())
    assert asyncio.run(finish(sealed)) == SECRET


@pytest.mark.parametrize(
    ("one", "several", "said"),
    [
        ("", "", "it is encrypted with the key 'key' ("),
        (WRONG, "", "the keys that are given (key) do not open it"),
        ("", f"a:{WRONG},b:{OLD}", "the keys that are given (a, b) do not open it"),
    ],
    ids=["none", "wrong", "several wrong"],
)
def test_without_the_key_a_store_is_refused_and_left_alone(
    key: Callable[..., None], tmp_path: Path, one: str, several: str, said: str
) -> None:
    path = tmp_path / "cadenza.db"
    key(NEW)
    asyncio.run(use(path))
    before = path.read_bytes()
    key(one, several)
    with pytest.raises(KeyMissing) as caught:
        asyncio.run(use(path))
    assert str(caught.value).startswith(str(path))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    key(NEW)
    assert asyncio.run(finish(path)) == SECRET


@pytest.mark.parametrize(
    ("one", "several", "said"),
    [
        ("ma!rmalade", "", "$CADENZA_KEY is not base64"),
        ("bWFybWFsYWRl", "", "$CADENZA_KEY has 9 bytes, not 32"),
        ("", f"new:{NEW},bWFybWFsYWRl", "key 2 in $CADENZA_KEYS has no name"),
        ("", f"new:{NEW},old:bWFybWFsYWRl", "the key 'old' in $CADENZA_KEYS has 9 bytes"),
        (NEW, BOTH, "both $CADENZA_KEY and $CADENZA_KEYS are set"),
    ],
)
def test_keys_that_cannot_be_read_are_never_shown(
    key: Callable[..., None], tmp_path: Path, one: str, several: str, said: str
) -> None:
    key(one, several)
    with pytest.raises(UsageError) as caught:
        SQLiteStore(tmp_path / "cadenza.db")
    assert said in str(caught.value)
    for secret in (one, NEW, OLD, "bWFybWFsYWRl"):
        assert not secret or secret not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_missing_extra_is_named(key: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    key(NEW)
    with pytest.raises(UsageError, match=r"cadenza\[encryption\]"):
        SQLiteStore(tmp_path / "cadenza.db")


def test_a_sealed_value_opens_in_its_own_place_only(key: Callable[..., None], tmp_path: Path) -> None:
    path = tmp_path / "cadenza.db"
    key(NEW)
    asyncio.run(use(path))
    connection: Any = apsw.Connection(str(path))
    ids = [row[0] for row in connection.execute("SELECT id FROM journal ORDER BY id LIMIT 2")]
    first, second = (next(iter(connection.execute("SELECT event FROM journal WHERE id = ?", (id,))))[0] for id in ids)
    connection.execute("UPDATE journal SET event = ? WHERE id = ?", (second, ids[0]))
    connection.execute("UPDATE journal SET event = ? WHERE id = ?", (first, ids[1]))
    connection.close()
    with pytest.raises(StoreCorrupt, match="it is not what was written"):
        journals(path)


def test_a_new_key_takes_the_place_of_the_old_one(key: Callable[..., None], tmp_path: Path) -> None:
    path = tmp_path / "cadenza.db"
    key("", f"old:{OLD}")
    asyncio.run(use(path))
    before = journals(path)
    key("", BOTH)
    assert journals(path) == before
    done = rotated(path)
    assert (done.key, done.retired, done.settled, done.compacted) == ("new", ["old"], True, True)
    assert done.values > 20
    assert ring(f"old:{OLD}").first.head not in raw(path)
    key("", f"new:{NEW}")
    assert journals(path) == before
    assert asyncio.run(finish(path)) == SECRET
    assert rotated(path).values == 0
    key("", f"old:{OLD}")
    with pytest.raises(KeyMissing):
        journals(path)


def test_a_plain_store_stays_readable_and_is_sealed_by_a_rotation(key: Callable[..., None], tmp_path: Path) -> None:
    path = tmp_path / "cadenza.db"
    asyncio.run(use(path))
    before = journals(path)
    key(NEW)
    assert journals(path) == before
    asyncio.run(add(path))
    assert SECRET.encode() in raw(path), "what was there before is as it was"
    before = journals(path)
    done = rotated(path)
    assert (done.settled, done.compacted) == (True, True)
    assert SECRET.encode() not in raw(path)
    assert journals(path) == before
    assert asyncio.run(finish(path)) == SECRET
    key()
    with pytest.raises(KeyMissing):
        journals(path)


async def add(path: Path) -> None:
    async with Engine.open(path) as engine:
        await (await engine.start(child, SECRET)).result()


def ring(keys: str) -> KeyRing:
    found = KeyRing.from_environment({"CADENZA_KEYS": keys})
    assert found is not None
    return found


def rotated(path: Path, **fields: Any) -> Rotated:
    keys = KeyRing.from_environment()
    assert keys is not None
    return rotate(path, keys, **fields)


def events_of(path: Path) -> int:
    connection: Any = apsw.Connection(str(path))
    try:
        connection.set_busy_timeout(10_000)
        return next(iter(connection.execute("SELECT count(*) FROM journal")))[0]
    finally:
        connection.close()


@pytest.mark.parametrize("first", ["new", "old"])
def test_keys_change_while_workers_write(key: Callable[..., None], tmp_path: Path, first: str) -> None:
    """A worker that already has the new key goes on; one that still seals with the old one keeps it from retiring."""
    path = tmp_path / "cadenza.db"
    key("", f"old:{OLD}")
    asyncio.run(use(path))
    key("", BOTH if first == "new" else f"old:{OLD},new:{NEW}")
    load = subprocess.Popen([sys.executable, "-m", "tests.acceptance.backup_load", str(path)], cwd=ROOT)
    try:
        before = events_of(path)
        until(lambda: events_of(path) > before + 50, "the load never began")
        key("", BOTH)

        def others_write(*_: Any) -> None:
            count = events_of(path)
            until(lambda: events_of(path) > count, "the load stopped")

        done = rotated(path, progress=others_write)
        assert done.settled == (first == "new")
        assert done.retired == (["old"] if done.settled else [])
        path.with_name("stop").touch()
        assert load.wait(60) == 0
    finally:
        load.kill()
        load.wait()
    if first == "new":
        key("", f"new:{NEW}")
    for row, journal in journals(path).values():
        if row.workflow.endswith("backup_load:whole"):
            assert json.loads(journal[-1].value) == backup_load.result(json.loads(journal[0].input))
    assert asyncio.run(finish(path)) == SECRET


def test_a_rotation_that_is_killed_is_done_by_the_next_one(key: Callable[..., None], tmp_path: Path) -> None:
    path = tmp_path / "cadenza.db"
    asyncio.run(use(path))
    before = journals(path)
    key("", BOTH)
    script = f"""
import os, signal
from pathlib import Path
from cadenza.engine.sqlite import rotation
from cadenza.engine.sqlite.sealing import KeyRing
rotation.BATCH = 7
rotation.rotate(Path({str(path)!r}), KeyRing.from_environment(), lambda *_: os.kill(os.getpid(), signal.SIGKILL))
"""
    killed = subprocess.run([sys.executable, "-c", script], check=False, cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL
    assert SECRET.encode() in raw(path)
    assert journals(path) == before
    assert rotated(path).settled
    assert SECRET.encode() not in raw(path)
    assert journals(path) == before
    assert asyncio.run(finish(path)) == SECRET


def test_alerts_are_sealed_and_sealed_anew(key: Callable[..., None], tmp_path: Path) -> None:
    path = tmp_path / "cadenza.db"
    key("", f"old:{OLD}")

    async def fail() -> None:
        options = EngineOptions(alerts=Alerts(command="false"))  # nobody is told, so that it stays
        async with Engine.open(path, options) as engine:
            with pytest.raises(RunFailed):
                await (await engine.start(failing, SECRET)).result()

    def alerts() -> list[str]:
        store = SQLiteStore(path)
        try:
            return [row.detail for row in store.alerts(1 << 62, 10)]
        finally:
            store.close()

    asyncio.run(fail())
    (detail,) = alerts()
    assert SECRET in detail
    assert SECRET.encode() not in raw(path)
    key("", BOTH)
    assert rotated(path).settled
    key("", f"new:{NEW}")
    assert alerts() == [detail]


def test_a_backup_needs_no_key_and_is_encrypted_too(key: Callable[..., None], tmp_path: Path) -> None:
    path, copy = tmp_path / "cadenza.db", tmp_path / "copy.db"
    key(NEW)
    asyncio.run(use(path))
    key()
    back_up(path, copy)
    assert SECRET.encode() not in raw(copy)
    with pytest.raises(KeyMissing):
        journals(copy)
    key(NEW)
    assert asyncio.run(finish(copy)) == SECRET


def test_equal_payloads_do_not_look_equal_under_two_keys(key: Callable[..., None], tmp_path: Path) -> None:
    def digests(path: Path) -> set[bytes]:
        connection: Any = apsw.Connection(str(path))
        try:
            return {row[0] for row in connection.execute("SELECT hash FROM blob")}
        finally:
            connection.close()

    found: list[set[bytes]] = []
    for number, one in enumerate(("", NEW, OLD)):
        key(one)
        asyncio.run(use(tmp_path / f"{number}.db"))
        found.append(digests(tmp_path / f"{number}.db"))
    assert all(found)
    assert not found[0] & found[1]
    assert not found[1] & found[2]


def test_the_command(tmp_path: Path) -> None:
    cadenza = Project(tmp_path)
    cadenza.env |= {"CADENZA_KEY": "", "CADENZA_KEYS": ""}
    cadenza("run", "flows.py:chain", "3", "--id", "one")
    keyless = cadenza("rotate-key")
    assert (keyless.code, "there is no key" in keyless.err) == (2, True)
    done = cadenza("rotate-key", CADENZA_KEY=OLD)
    assert (done.code, "Everything is encrypted" in done.err) == (0, True)
    for wrong in ({}, {"CADENZA_KEY": WRONG}):
        refused = cadenza("show", "one", **wrong)
        assert (refused.code, len(refused.err.splitlines())) == (5, 1)
        assert "it is encrypted with the key 'key'" in refused.err
    again = cadenza("rotate-key", "--json", CADENZA_KEYS=BOTH).json
    assert (again["key"], again["retired"], again["settled"]) == ("new", ["key"], True)
    assert cadenza("show", "one", CADENZA_KEY=NEW).code == 0
    assert OLD not in done.out + done.err


def test_it_costs_nothing_where_it_is_off(tmp_path: Path) -> None:
    script = f"""
import asyncio, sys
from cadenza import Engine
async def main():
    async with Engine.open({str(tmp_path / "cadenza.db")!r}):
        pass
asyncio.run(main())
print([name for name in sys.modules if name.startswith("cryptography")])
"""
    env = os.environ | {"CADENZA_KEY": "", "CADENZA_KEYS": ""}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=env, cwd=ROOT)
    assert done.stdout.strip() == "[]"
