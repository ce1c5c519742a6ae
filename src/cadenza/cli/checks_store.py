"""The doctor's checks of a store: its version, integrity, workers, runs that need somebody, and the clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cadenza.cli.board import seconds
from cadenza.cli.checks_machine import Check
from cadenza.cli.place import store_flag
from cadenza.cli.workers import is_stranded, living
from cadenza.engine.engine import Engine
from cadenza.engine.options import EngineOptions
from cadenza.engine.store import Filter
from cadenza.errors import CadenzaError

LOOKED_AT = 1_000
SKEW_US = 2_000_000


def store_checks(path: Path, *, quick: bool) -> list[Check]:
    """Everything about one store; if there is none, that is said."""
    if not path.exists():
        return [Check("store", "ok", f"there is none at {path} yet; the first run makes it")]

    async def read() -> list[Check]:
        async with Engine.open(path, EngineOptions(worker=False)) as engine:
            found = list(_file(path, quick=quick))
            if all(each.state != "problem" for each in found):
                found += _contents(engine, str(path))
            return found

    try:
        return asyncio.run(read())
    except CadenzaError as error:
        return [Check("store", "problem", str(error))]


def _file(path: Path, *, quick: bool) -> Iterator[Check]:
    """The file itself, through a connection that cannot write."""
    import apsw

    log = path.with_name(f"{path.name}-wal")
    size = path.stat().st_size + (log.stat().st_size if log.exists() else 0)
    try:
        connection: Any = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        connection.set_busy_timeout(5_000)
        schema = connection.pragma("user_version")
        yield Check("store", "ok", f"{path}, {size / 1e6:.1f} MB, schema {schema}")
        if quick:
            return
        begin_s = time.perf_counter()
        problems = [" ".join(str(row[0]).split())[:200] for row in connection.execute("PRAGMA quick_check(5)")]
        connection.close()
    except apsw.Error as error:
        yield Check(
            "integrity", "problem", f"{error}; restore a backup, or: sqlite3 {path} .recover | sqlite3 recovered.db"
        )
        return
    took = f"{time.perf_counter() - begin_s:.1f} s"
    if problems == ["ok"]:
        yield Check("integrity", "ok", f"every page is sound ({took})")
    else:
        yield Check(
            "integrity",
            "problem",
            f"{'; '.join(problems)}. Restore a backup, or: sqlite3 {path} .recover | sqlite3 recovered.db",
        )


def _contents(engine: Engine, store: str) -> Iterator[Check]:
    alive = living(engine)
    workers = ", ".join(f"{each.owner} on {each.host}" for each in alive)
    yield Check(
        "workers", "ok", f"{len(alive)} alive" + (f": {workers}" if alive else "; cadenza worker FILE starts one")
    )
    yield from _runs(engine, store, {each.owner for each in alive})
    yield _clock(engine)


def _runs(engine: Engine, store: str, alive: set[str]) -> Iterator[Check]:
    flag = store_flag(store)
    blocked = engine.runs(Filter(("blocked",), limit=LOOKED_AT))
    if blocked:
        ids = _some([row.run_id for row in blocked])
        yield Check(
            "blocked runs", "warning", f"{len(blocked)}: {ids}. See why: cadenza show {blocked[0].run_id}{flag}"
        )
    else:
        yield Check("blocked runs", "ok", "none")
    stranded = [row for row in engine.runs(Filter(("running",), limit=LOOKED_AT)) if is_stranded(row, alive)]
    if stranded:
        how = f"A worker takes them up, or: cadenza resume {stranded[0].root}{flag}"
        yield Check(
            "stranded runs",
            "warning",
            f"{len(stranded)} whose process is gone: {_some([row.run_id for row in stranded])}. {how}",
        )
    ready = engine.runs(Filter(("ready",), limit=LOOKED_AT))
    if ready and not alive:
        how = f"Start a worker: cadenza worker FILE{flag}"
        yield Check(
            "ready runs", "warning", f"{len(ready)} wait for a worker: {_some([row.run_id for row in ready])}. {how}"
        )
    questions = len(engine.tasks())
    if questions:
        yield Check("questions", "ok", f"{questions} wait for people: cadenza answer --list{flag}")


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (" …" if len(names) > 3 else "")


def _clock(engine: Engine) -> Check:
    """Whether the store was written in what this clock calls the future."""
    now = engine.clock.now()
    newest = max((max(row.created_at, row.ended_at) for row in engine.runs(Filter(limit=50))), default=0)
    shown = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(now / 1e6))
    if newest > now + SKEW_US:
        return Check(
            "clock",
            "problem",
            f"{shown}, {seconds(newest - now)} behind the newest run: timers will fire late. Set the clock",
        )
    return Check("clock", "ok", shown)
