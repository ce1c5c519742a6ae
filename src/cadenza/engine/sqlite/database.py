"""Opening a database file: pragmas, migrations, and errors that say what is wrong and what to do."""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw

from cadenza.engine.sqlite.sql import APPLICATION_ID, migrations
from cadenza.errors import (
    StoreCorrupt,
    StoreError,
    StoreUnavailable,
    StoreVersion,
)
from cadenza.errors.store import DISK_FULL, MAKE_ROOM, READ_ONLY, WRITABLE

Connection = Any
"""``apsw.Connection``, whose annotations name types that Python 3.11 does not have."""
BUSY_S_MAX = 30.0
CHECKPOINT_PAGES = 1_000
ROOMY = 25
"""A disk that has room for so many full logs can spare one."""


def connect(path: Path, *, writer: bool) -> Connection:
    """A connection with our pragmas. The file is created and migrated by the writer.

    Raises:
        StoreUnavailable: the file cannot be opened or written.
        StoreCorrupt: it is damaged, or no database.
        StoreVersion: it belongs to a newer Cadenza, or to another program.
    """
    with errors_of(path):
        if writer:
            _check_place(path)
        connection: Connection = apsw.Connection(str(path))
        try:
            _prepare(connection, path, writer=writer)
        except BaseException:
            close(connection)
            raise
        return connection


def close(connection: Connection) -> None:
    """Close a connection. Where a full disk keeps the log from being folded in, whoever opens the file next does it."""
    with contextlib.suppress(apsw.Error):
        connection.close()


def lengthen_log(connection: Connection, path: Path) -> None:
    """Give the write-ahead log its full length now, instead of a page with every commit.

    A commit that makes a file longer syncs the file system's books as well, and takes twice as long. A transaction that
    is too large for the page cache is spilt to the log; when it is rolled back, the log keeps its length, and the
    database does not change. If that cannot be done (little space, another writer), the log grows as it goes.
    """
    log = Path(f"{path}-wal")
    length = CHECKPOINT_PAGES * int(str(connection.pragma("page_size")))
    with contextlib.suppress(apsw.Error, OSError):
        disk = os.statvfs(path.parent)
        if log.stat().st_size >= length or disk.f_bavail * disk.f_frsize < ROOMY * length:
            return
        usual = connection.pragma("cache_size")
        connection.pragma("cache_size", 10)
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO blob (hash, body) VALUES (x'', zeroblob(?))", (length,))
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            connection.pragma("cache_size", usual)


def _prepare(connection: Connection, path: Path, *, writer: bool) -> None:
    connection.set_busy_handler(patient())
    if writer:
        if connection.readonly("main"):
            raise StoreUnavailable(str(path), READ_ONLY, WRITABLE)
        check_owner(connection, path)  # before anything is written
    if not _keeps_log(connection):
        raise StoreUnavailable(str(path), "it cannot keep a write-ahead log here", "Put it on a local disk.")
    connection.pragma("synchronous", "full")
    connection.pragma("wal_autocheckpoint", CHECKPOINT_PAGES if writer else 0)
    if writer:
        _migrate(connection, path)


def _check_place(path: Path) -> None:
    where = str(path)
    if path.is_dir():
        raise StoreUnavailable(where, "it is a folder", f"Name a file in it: {path / 'cadenza.db'}")
    if not path.parent.is_dir():
        raise StoreUnavailable(where, "its folder does not exist", f"Create it: mkdir -p {path.parent}")


def _keeps_log(connection: Connection) -> bool:
    """Whether the file has a write-ahead log now. Processes that open a new file at once may be in each other's way
    here, and SQLite does not call the busy handler then."""
    wait, tries = patient(), 0
    while True:
        try:
            return connection.pragma("journal_mode", "wal") == "wal"
        except apsw.BusyError:
            if not wait(tries):
                raise
            tries += 1


def _migrate(connection: Connection, path: Path) -> None:
    scripts = migrations()
    if schema_version(connection) == len(scripts):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        check_owner(connection, path)  # another process may have been faster
        for script in scripts[schema_version(connection) :]:
            connection.execute(script)
        connection.pragma("application_id", APPLICATION_ID)
        connection.pragma("user_version", len(scripts))
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def check_owner(connection: Connection, path: Path) -> None:
    """Refuse what is not ours, or newer than we are. Nothing is written. Raises StoreVersion."""
    tables = next(iter(connection.execute("SELECT count(*) FROM sqlite_schema")))[0]
    application = int(
        str(connection.pragma("application_id"))
    )  # read last: both are set by one commit, maybe meanwhile
    if (tables or application) and application != APPLICATION_ID:
        raise StoreVersion(
            str(path),
            "a database of another program. Nothing was changed. Give Cadenza a file of its own: choose another path",
        )
    version = schema_version(connection)
    if version > len(migrations()):
        raise StoreVersion(
            str(path),
            f"written by a newer Cadenza (schema {version}; this one knows up to {len(migrations())}). "
            "Nothing was changed. Upgrade: pip install -U cadenza",
        )


def schema_version(connection: Connection) -> int:
    return int(str(connection.pragma("user_version")))


def patient() -> Callable[[int], bool]:
    """Waits for another writer in short random naps, so that nobody starves; gives up after half a minute."""
    began = 0.0

    def wait(tries: int) -> bool:
        nonlocal began
        if tries == 0:
            began = time.monotonic()
        time.sleep(random.uniform(0.0003, 0.002))
        return time.monotonic() - began < BUSY_S_MAX

    return wait


@contextmanager
def errors_of(path: Path) -> Generator[None]:
    """Turns what SQLite and the operating system report into errors of ours."""
    try:
        yield
    except (apsw.Error, OSError) as error:
        raise explain(error, path) from error


def explain(error: apsw.Error | OSError, path: Path) -> StoreError:
    """The error of ours that says what happened to ``path``."""
    where = str(path)
    match error:
        case OSError():
            return StoreUnavailable.because(error, where)
        case apsw.FullError():
            return StoreUnavailable(where, DISK_FULL, MAKE_ROOM)
        case apsw.ReadOnlyError() | apsw.PermissionsError():
            return StoreUnavailable(where, READ_ONLY, WRITABLE)
        case apsw.NotADBError():
            return StoreCorrupt(
                where,
                "it is no SQLite database, or its first page was overwritten",
                "Nothing was changed. Choose another path for the store; if this was one, restore a backup.",
            )
        case apsw.CorruptError():
            return StoreCorrupt(where, f"it is damaged ({error})")
        case apsw.CantOpenError():
            hint = f"Give this user the right to read and write it, and to create files in {path.parent}."
            return StoreUnavailable(where, "it cannot be opened", hint)
        case apsw.BusyError() | apsw.LockedError():
            return StoreUnavailable(where, "another program holds its lock", "Close that program, or wait for it.")
        case apsw.IOError():
            return StoreUnavailable(where, f"the disk reports an error ({error})", "Check the disk, then start again.")
        case _:
            return StoreUnavailable(where, str(error), "Please report this.")
