"""Backups of a store in use: of one moment, sound, and as good as the store itself."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from cadenza import Engine, EngineOptions
from cadenza.durable.define import find_workflow
from cadenza.durable.machine import Machine
from cadenza.engine.sqlite import backup
from cadenza.engine.sqlite.backup import back_up
from cadenza.engine.store import Filter, RunRow
from cadenza.errors import StoreCorrupt, StoreUnavailable, StoreVersion, UsageError
from tests.acceptance import backup_load
from tests.acceptance.commands import Project, until

ROOT = Path(__file__).parents[2]
ALL = Filter(limit=1_000_000)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with one run that has ended."""

    async def make() -> None:
        async with Engine.open(tmp_path / "cadenza.db") as engine:
            await (await engine.start(backup_load.whole, 1)).result()

    asyncio.run(make())
    return tmp_path / "cadenza.db"


@pytest.fixture
def loaded(tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """A store to which another process writes all the time."""
    path = tmp_path / "cadenza.db"
    process = subprocess.Popen([sys.executable, "-m", "tests.acceptance.backup_load", str(path)], cwd=ROOT)
    until(lambda: path.exists() and events_of(path) > 200, "the load never began")
    try:
        yield path, process
    finally:
        process.kill()
        process.wait()


def events_of(path: Path) -> int:
    connection: Any = apsw.Connection(str(path))
    try:
        connection.set_busy_timeout(10_000)
        if not next(iter(connection.execute("SELECT count(*) FROM sqlite_schema")))[0]:
            return 0
        return next(iter(connection.execute("SELECT count(*) FROM journal")))[0]
    finally:
        connection.close()


def contents(path: Path) -> dict[str, tuple[RunRow, list[Any]]]:
    from cadenza.engine.sqlite.store import SQLiteStore

    store = SQLiteStore(path)
    try:
        return {row.run_id: (row, store.events(row.no)) for row in store.runs(ALL)}
    finally:
        store.close()


def test_a_backup_under_load_goes_on_to_the_same_results(
    loaded: tuple[Path, subprocess.Popen[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, process = loaded
    monkeypatch.setattr(backup, "STEP_PAGES", 20)
    seen: list[int] = []

    def others_write(copied: int, pages: int) -> None:
        """Between two steps of the copy, the other process commits."""
        before = events_of(path)
        until(lambda: events_of(path) > before, "the load stopped")
        seen.append(copied)

    done = back_up(path, tmp_path / "copy.db", others_write)
    assert len(seen) > 3, "it was copied in one go"
    assert seen == sorted(seen), "it began anew"
    assert [each.name for each in tmp_path.glob("*copy*")] == ["copy.db"], "something was left behind"
    path.with_name("stop").touch()
    assert process.wait(60) == 0

    source, copy = contents(path), contents(tmp_path / "copy.db")
    assert len(copy) == done.runs < len(source)
    for run_id, (_, journal) in copy.items():
        assert source[run_id][1][: len(journal)] == journal, "it is not what the source was at one moment"
    assert any(not row.ended for row, _ in copy.values()), "nothing was under way: the test shows nothing"

    async def go_on() -> None:
        async with Engine.open(tmp_path / "copy.db", EngineOptions(adopt_all=True)) as engine, asyncio.timeout(60):
            for run_id in copy:
                await engine.ended(run_id)

    asyncio.run(go_on())
    for run_id, (row, journal) in contents(tmp_path / "copy.db").items():
        assert row.status == "completed", row
        machine = Machine(find_workflow(row.workflow))
        machine.replay(journal)
        assert machine.finished
        assert json.loads(journal[-1].value) == json.loads(source[run_id][1][-1].value)
        if not row.parent:
            assert json.loads(journal[-1].value) == backup_load.result(json.loads(journal[0].input))


def test_nothing_is_overwritten_and_places_are_checked(store: Path, tmp_path: Path) -> None:
    before = store.read_bytes()
    with pytest.raises(UsageError, match="is there already"):
        back_up(store, store)
    with pytest.raises(UsageError, match="is there already"):
        back_up(store, tmp_path)
    with pytest.raises(StoreUnavailable, match="its folder does not exist"):
        back_up(store, tmp_path / "missing" / "copy.db")
    assert store.read_bytes() == before


def test_what_is_no_store_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    (tmp_path / "text.db").write_text("Dear Sir, " * 1_000)
    other: Any = apsw.Connection(str(tmp_path / "other.db"))
    other.execute("CREATE TABLE thing (x)")
    other.close()
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for name, kind in (("empty", StoreCorrupt), ("text", StoreCorrupt), ("other", StoreVersion)):
        with pytest.raises(kind):
            back_up(tmp_path / f"{name}.db", tmp_path / "copy.db")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_damaged_store_gives_no_backup(store: Path, tmp_path: Path) -> None:
    connection: Any = apsw.Connection(str(store))
    page = next(iter(connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'journal'")))[0]
    connection.close()
    with store.open("r+b") as file:
        file.seek((page - 1) * 4_096)
        file.write(os.urandom(4_096))
    with pytest.raises(StoreCorrupt) as caught:
        back_up(store, tmp_path / "copy.db")
    assert str(caught.value).startswith(str(store))
    assert not list(tmp_path.glob("*copy*"))


def test_a_full_disk_leaves_no_half_backup(store: Path, tmp_path: Path) -> None:
    script = f"""
import resource, signal
from pathlib import Path
from cadenza.engine.sqlite.backup import back_up
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (49_152, {resource.RLIM_INFINITY}))
back_up(Path({str(store)!r}), Path({str(tmp_path / "copy.db")!r}))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 1
    assert "StoreUnavailable" in done.stderr.splitlines()[-1], done.stderr
    assert str(tmp_path / "copy.db") in done.stderr.splitlines()[-1]
    assert not list(tmp_path.glob("*copy*"))


def test_what_a_killed_backup_has_left_is_removed_by_the_next(store: Path, tmp_path: Path) -> None:
    script = f"""
import os, signal
from pathlib import Path
from cadenza.engine.sqlite.backup import back_up
def die(copied, pages):
    os.kill(os.getpid(), signal.SIGKILL)
back_up(Path({str(store)!r}), Path({str(tmp_path / "copy.db")!r}), die)
"""
    subprocess.run([sys.executable, "-c", script], check=False, cwd=ROOT)
    assert list(tmp_path.glob(".copy.db.*.part*"))
    (tmp_path / f".copy.db.{os.getppid()}.part").touch()  # of a process that lives
    assert back_up(store, tmp_path / "copy.db").runs
    assert [each.name for each in tmp_path.glob(".copy.db.*")] == [f".copy.db.{os.getppid()}.part"]


def test_the_command(tmp_path: Path) -> None:
    cadenza = Project(tmp_path)
    cadenza("run", "flows.py:checkout", '{"id": 1, "item": "tea"}', "--id", "one")
    done = cadenza("backup", "copy.db", "--json")
    assert (done.code, done.json["runs"]) == (0, 1)
    again = cadenza("backup", "copy.db")
    assert (again.code, "is there already" in again.err) == (2, True)
    assert cadenza("backup", "other.db", "--store", "missing.db").code == 5
    assert cadenza("answer", "one", "--approve", "--store", "copy.db").code == 0
    assert cadenza("resume", "one", "--store", "copy.db").code == 0
    assert cadenza("runs", "--json").json[0]["status"] == "waiting", "the store itself is not touched"
