"""Gives the space of what was deleted back to the file system.

SQLite keeps the pages of deleted rows in the file, and uses them again. ``VACUUM`` writes the whole database anew:
first to a temporary file, then through the write-ahead log. It holds the turnstile meanwhile, so that workers of other
processes wait for their turn as they do for any commit; readers go on.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec

from cadenza.engine.sqlite.database import close, connect, errors_of
from cadenza.engine.sqlite.turnstile import Turnstile
from cadenza.errors import StoreUnavailable


class Vacuumed(msgspec.Struct, frozen=True):
    """Sizes of the file with its log, in bytes. ``checkpointed`` is false if a reader kept the log from being folded
    in: the file gets its new size when the next writer has done so."""

    before_bytes: int
    after_bytes: int
    checkpointed: bool


def free_bytes(path: Path) -> tuple[int, int]:
    """How many bytes a vacuum would give back, and how many it would have to write. Raises StoreError."""
    with errors_of(path):
        connection = connect(path, writer=False)
        try:
            page, pages, free = (
                int(str(connection.pragma(name))) for name in ("page_size", "page_count", "freelist_count")
            )
        finally:
            close(connection)
    return page * free, page * (pages - free)


def vacuum(path: Path, locks: Path) -> Vacuumed:
    """Write the database at ``path`` anew, without the free pages.

    Raises:
        StoreUnavailable: too little room on the disk (nothing was changed), or another program has the file.
    """
    _, needed = free_bytes(path)
    _check_room(path, needed)
    with errors_of(path):
        before = _size(path)
        connection = connect(path, writer=True)
        turnstile = Turnstile(locks)
        try:
            turnstile.enter()
            try:
                connection.execute("VACUUM")
                busy = next(iter(connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")))[0]
            finally:
                turnstile.leave()
        finally:
            turnstile.close()
            close(connection)
        return Vacuumed(before, _size(path), not busy)


def _check_room(path: Path, needed: int) -> None:
    """The temporary file and the log take as much as the new database, each. Raises StoreUnavailable."""
    named = (os.environ.get(name) for name in ("SQLITE_TMPDIR", "TMPDIR"))
    folders = (each for each in (*named, "/var/tmp", "/usr/tmp", "/tmp") if each and os.access(each, os.W_OK | os.X_OK))
    temporary = Path(next(folders, "."))
    with errors_of(path):
        together = temporary.stat().st_dev == path.parent.stat().st_dev
        for folder in (path.parent, temporary):
            room, wanted = shutil.disk_usage(folder).free, needed * (2 if together else 1)
            if room < wanted:
                problem = f"a vacuum has to write {wanted:,} bytes to {folder}, and there is room for {room:,}"
                raise StoreUnavailable(str(path), problem, "Make room, or set SQLITE_TMPDIR to a folder elsewhere.")


def _size(path: Path) -> int:
    return sum(each.stat().st_size for each in (path, Path(f"{path}-wal")) if each.exists())
