"""The catalogue: tables of the upper layers in the store's own file, beside the engine's writer."""

import asyncio
import functools
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from cadenza import Context, Engine, workflow
from cadenza.durable.define import step
from cadenza.engine.catalogue import Catalogue, current_catalogue
from cadenza.engine.options import EngineOptions
from cadenza.errors import StoreUnavailable, StoreVersion, UsageError

NOTES = "CREATE TABLE catalogue_test_note (id INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT"
QUIET = EngineOptions(worker=False)


def on_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


def noted(catalogue: Catalogue, text: str) -> None:
    catalogue.ensure("catalogue_test", 1, NOTES)
    catalogue.write(lambda db: db.execute("INSERT INTO catalogue_test_note (text) VALUES (?)", (text,)))


def notes(catalogue: Catalogue) -> list[str]:
    catalogue.ensure("catalogue_test", 1, NOTES)
    return [text for (text,) in catalogue.read("SELECT text FROM catalogue_test_note ORDER BY id")]


@step(effect="idempotent")
async def catalogue_step(text: str) -> list[str]:
    noted(current_catalogue.get(), text)
    return notes(current_catalogue.get())


@step(effect="idempotent")
def catalogue_thread_step(text: str) -> list[str]:
    noted(current_catalogue.get(), text)
    return notes(current_catalogue.get())


@workflow
async def catalogue_flow(ctx: Context) -> list[str]:
    await ctx.step(catalogue_step, "from the loop")
    return await ctx.step(catalogue_thread_step, "from a thread")


@pytest.mark.parametrize("where", ["file", "memory"])
@on_loop
async def test_steps_and_the_engine_share_one_catalogue(where: str, tmp_path: Path) -> None:
    async with Engine.open(tmp_path / "c.db" if where == "file" else ":memory:") as engine:
        handle = await engine.start(catalogue_flow)
        assert await handle.result() == ["from the loop", "from a thread"]
        assert notes(engine.catalogue) == ["from the loop", "from a thread"]


@on_loop
async def test_what_was_written_is_there_after_a_restart_and_in_a_backup(tmp_path: Path) -> None:
    async with Engine.open(tmp_path / "c.db", QUIET) as engine:
        noted(engine.catalogue, "kept")
        await engine.backup(tmp_path / "copy.db")
    for name in ("c.db", "copy.db"):
        async with Engine.open(tmp_path / name, QUIET) as engine:
            assert notes(engine.catalogue) == ["kept"]


@on_loop
async def test_an_engine_that_does_not_use_it_has_no_tables_of_it(tmp_path: Path) -> None:
    async with Engine.open(tmp_path / "c.db") as engine:
        assert engine.store.runs
    with sqlite3.connect(tmp_path / "c.db") as db:
        assert not db.execute("SELECT name FROM sqlite_schema WHERE name LIKE 'catalogue%'").fetchall()
    db.close()


@on_loop
async def test_a_version_is_run_once_and_in_order(tmp_path: Path) -> None:
    async with Engine.open(tmp_path / "c.db", QUIET) as engine:
        noted(engine.catalogue, "old")
    async with Engine.open(tmp_path / "c.db", QUIET) as engine:
        kept = engine.catalogue
        with pytest.raises(StoreVersion, match="catalogue_test are of version 1; 3 follows 2"):
            kept.ensure("catalogue_test", 3, "SELECT 1")
        for _ in range(2):
            kept.ensure("catalogue_test", 2, "ALTER TABLE catalogue_test_note ADD COLUMN colour TEXT")
        assert kept.read("SELECT text, colour FROM catalogue_test_note") == [("old", None)]
    async with Engine.open(tmp_path / "c.db", QUIET) as engine:
        noted(engine.catalogue, "older code, same file")
        assert len(notes(engine.catalogue)) == 2


@on_loop
async def test_a_write_that_raises_leaves_nothing(tmp_path: Path) -> None:
    async with Engine.open(tmp_path / "c.db", QUIET) as engine:
        noted(engine.catalogue, "before")

        def half(db: Any) -> None:
            db.execute("INSERT INTO catalogue_test_note (text) VALUES ('half')")
            noted(engine.catalogue, "a write within it")
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            engine.catalogue.write(half)
        assert notes(engine.catalogue) == ["before"]
        noted(engine.catalogue, "after")
        assert notes(engine.catalogue) == ["before", "after"]


@on_loop
async def test_it_closes_with_its_engine(tmp_path: Path) -> None:
    async with Engine.open(tmp_path / "c.db", QUIET) as engine:
        noted(engine.catalogue, "x")
    with pytest.raises(UsageError, match="the catalogue is closed"):
        notes(engine.catalogue)
    with pytest.raises(UsageError, match="the catalogue is closed"):
        noted(engine.catalogue, "too late")


@on_loop
async def test_a_file_that_became_read_only_is_named(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    async with Engine.open(path, QUIET) as engine:
        noted(engine.catalogue, "x")
    read_only = Catalogue(path)
    assert notes(read_only) == ["x"]
    read_only._writer.pragma("query_only", True)  # pyright: ignore[reportPrivateUsage] - as root, no file is
    with pytest.raises(StoreUnavailable, match=r"c\.db: it is read-only"):
        noted(read_only, "y")
    assert notes(read_only) == ["x"]
    read_only.close()


@on_loop
async def test_nobody_starves_while_threads_and_runs_write(tmp_path: Path) -> None:
    async with Engine.open(tmp_path / "c.db") as engine:
        noted(engine.catalogue, "first")
        stop = threading.Event()
        count = 0

        def scribble() -> None:
            nonlocal count
            while not stop.is_set():
                noted(engine.catalogue, "again")
                count += 1

        thread = threading.Thread(target=scribble)
        thread.start()
        handles = [await engine.start(catalogue_flow) for _ in range(20)]
        for each in handles:
            assert "from a thread" in await each.result()
        stop.set()
        await asyncio.to_thread(thread.join)
        assert count
        assert len(notes(engine.catalogue)) == 1 + count + 40


WRITER = """
import sys
from pathlib import Path
from cadenza.engine.catalogue import Catalogue
kept = Catalogue(Path(sys.argv[1]))
for number in range(200):
    kept.write(lambda db: db.execute("INSERT INTO catalogue_test_note (text) VALUES ('other process')"))
kept.close()
"""


@on_loop
async def test_processes_write_to_one_file(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    async with Engine.open(path) as engine:
        noted(engine.catalogue, "first")
        others = [subprocess.Popen([sys.executable, "-c", WRITER, str(path)]) for _ in range(2)]
        for _ in range(10):
            await (await engine.start(catalogue_flow)).result()
        codes = [await asyncio.to_thread(each.wait) for each in others]
        assert codes == [0, 0]
        assert len(notes(engine.catalogue)) == 1 + 400 + 20
