"""A copy of a store while it is in use: SQLite's online backup, of one moment.

The copy is read from one snapshot, so that writers do not hold it up, and it does not hold them up. Meanwhile the
write-ahead log keeps what is written; it is folded into the database afterwards.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from pathlib import Path

import apsw
import msgspec

from cadenza.engine.sqlite.database import Connection, check_owner, close, errors_of, schema_version
from cadenza.errors import StoreCorrupt, StoreUnavailable, UsageError

STEP_PAGES = 1_024
Progress = Callable[[int, int], None]
"""Called with (pages copied, pages in all)."""


class Backup(msgspec.Struct, frozen=True):
    """What was copied."""

    path: str
    bytes: int
    schema: int
    runs: int
    events: int


def back_up(source: Path, target: Path, progress: Progress | None = None) -> Backup:
    """Copy the store ``source`` to ``target``, as it is now. It is written under another name, checked, and renamed.

    Raises:
        UsageError: ``target`` exists.
        StoreUnavailable: one of the files cannot be read or written.
        StoreCorrupt: ``source`` is damaged.
        StoreVersion: ``source`` belongs to another program, or to a newer Cadenza.
    """
    if target.exists():
        raise UsageError(f"{target} is there already. Nothing was written; choose another name for the backup.")
    if not target.parent.is_dir():
        raise StoreUnavailable(str(target), "its folder does not exist", f"Create it: mkdir -p {target.parent}")
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    _remove_abandoned(target)
    try:
        schema = _copy(source, part, target, progress)
        done = _checked(part, source, target, schema)
        with errors_of(target):
            _sync(part)
            part.rename(target)
            _sync(target.parent)
    finally:
        for ending in ("", "-wal", "-shm", "-journal"):
            Path(f"{part}{ending}").unlink(missing_ok=True)
    return done


def _copy(source: Path, part: Path, target: Path, progress: Progress | None) -> int:
    """Copy all pages; returns the schema's version."""
    with errors_of(source):
        reader: Connection = apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READWRITE)
    with contextlib.closing(reader):
        with errors_of(source):
            check_owner(reader, source)
            schema = schema_version(reader)
            if not schema:
                raise StoreCorrupt(str(source), "it is empty", "There is nothing to back up; name another store.")
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM sqlite_schema").fetchall()  # the snapshot is taken here
        with errors_of(target):
            writer: Connection = apsw.Connection(str(part))
        with contextlib.closing(writer), errors_of(target), writer.backup("main", reader, "main") as copying:
            while not copying.done:
                copying.step(STEP_PAGES)
                if progress is not None:
                    progress(copying.page_count - copying.remaining, copying.page_count)
    return schema


def _checked(part: Path, source: Path, target: Path, schema: int) -> Backup:
    """Read the whole copy. Raises StoreCorrupt if it is not sound."""
    with errors_of(source):
        copy: Connection = apsw.Connection(str(part))
        try:
            problems = [str(row[0]) for row in copy.execute("PRAGMA integrity_check(5)")]
            if problems != ["ok"]:
                raise StoreCorrupt(str(source), f"its copy is not sound ({'; '.join(problems)})")
            check_owner(copy, target)
            if schema_version(copy) != schema:
                raise StoreCorrupt(str(target), "the copy has another schema than its source", "Make it again.")
            runs, events = next(iter(copy.execute("SELECT (SELECT count(*) FROM run), (SELECT count(*) FROM journal)")))
        finally:
            close(copy)
    return Backup(str(target), part.stat().st_size, schema, int(runs), int(events))


def _remove_abandoned(target: Path) -> None:
    """Remove what backups to ``target`` have left that were killed: their processes are gone."""
    ours = re.compile(re.escape(f".{target.name}.") + r"(\d+)\.part(?:-wal|-shm|-journal)?")
    for path in target.parent.iterdir():
        if (found := ours.fullmatch(path.name)) is not None and not _lives(int(found[1])):
            path.unlink(missing_ok=True)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return pid != os.getpid()  # a file of this number is not ours yet: somebody else had the number before


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
