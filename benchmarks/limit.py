"""The limit beside each workload: what this Python, this disk and SQLite do when nothing is orchestrated.

W1: one insert a commit; W1p, W2, W3: 100 inserts a commit (outcomes may share a transaction there). SQLite through
apsw, WAL, `synchronous=FULL`, one table, about 100 bytes a row, all on the main thread. Processor time a step: the same
number of bare asyncio tasks.

W1 has a second limit, in a log that has its full length already, as in a process that has been writing for a while: a
commit that makes the log's file longer has the filesystem write the file's size too, and takes longer for it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import apsw

from benchmarks.side import AT_THE_END, NONE, ON_DISK, Series, cpu_us_async, rate, serve

PAYLOAD = b'{"ok": 1, "padding": "' + b"x" * 76 + b'"}'
INSERT = "insert into journal values(?, ?, ?, ?)"


def inserts(folder: Path, rows: int, rows_per_commit: int, repeats: int, long_log: bool = False) -> float:
    """Rows per second, committed `rows_per_commit` at a time."""
    db = apsw.Connection(str(folder / "limit.db"))
    assert db.pragma("journal_mode", "wal") == "wal"
    db.pragma("synchronous", "full")
    db.execute("create table journal(run_id text, seq integer, path text, payload blob)")
    if long_log:
        lengthen(db)

    def once(k: int) -> None:
        for start in range(0, rows if k else rows_per_commit, rows_per_commit):
            if rows_per_commit == 1:
                db.execute(INSERT, (f"run-{k}", start, "r/s#1", PAYLOAD))
            else:
                with db:
                    batch = range(start, start + rows_per_commit)
                    db.executemany(INSERT, [(f"run-{k}", seq, "r/s#1", PAYLOAD) for seq in batch])

    value = rate(rows, once, repeats)
    db.close()
    return value


def lengthen(db: apsw.Connection) -> None:
    """Fill the log with commits that change nothing, up to SQLite's usual length; the next commit begins it anew."""
    db.pragma("synchronous", "normal")
    for _ in range(1_000):
        db.pragma("user_version", 1)
    db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
    db.pragma("synchronous", "full")


async def noop(i: int) -> dict[str, int]:
    """The step that every system runs."""
    return {"ok": i}


async def task_chain(steps: int) -> None:
    """One task after another."""
    for i in range(steps):
        await asyncio.create_task(noop(i))


async def task_gather(steps: int) -> None:
    """All tasks at once."""
    await asyncio.gather(*[asyncio.create_task(noop(i)) for i in range(steps)])


def tasks_us(steps: int, shape: Callable[[int], Awaitable[None]]) -> float:
    """Microseconds of processor time a bare asyncio task."""
    return asyncio.run(cpu_us_async(steps, lambda k: shape(steps if k else 10)))


if __name__ == "__main__":
    serve(
        {"SQLite (apsw)": apsw.sqlite_lib_version()},
        [
            Series("W1", "limit: 1 insert a commit", ON_DISK, lambda folder: inserts(folder, 100, 1, 5)),
            Series(
                "W1", "limit: the same, long log", ON_DISK, lambda folder: inserts(folder, 100, 1, 5, long_log=True)
            ),
            Series(
                "W1p", "limit: 100 inserts a commit", AT_THE_END, lambda folder: inserts(folder, 1_000, 100, repeats=5)
            ),
            Series(
                "W2", "limit: 100 inserts a commit", AT_THE_END, lambda folder: inserts(folder, 1_000, 100, repeats=5)
            ),
            Series(
                "W3", "limit: 100 inserts a commit", AT_THE_END, lambda folder: inserts(folder, 5_000, 100, repeats=3)
            ),
            Series("cpu-chain", "limit: bare asyncio tasks", NONE, lambda _: tasks_us(2_000, task_chain)),
            Series("cpu-gather", "limit: bare asyncio tasks", NONE, lambda _: tasks_us(1_000, task_gather)),
        ],
    )
