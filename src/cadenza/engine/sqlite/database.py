"""Opening a database file: pragmas, migrations, and errors that say what is wrong and what to do."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from cadenza.engine.sqlite.sql import APPLICATION_ID, migrations
from cadenza.errors import StoreCorrupt, StoreError, StoreUnavailable, StoreVersion

BUSY_S_MAX = 30.0
CHECKPOINT_PAGES = 4_000


def connect(path: Path, *, writer: bool) -> apsw.Connection:
    """A connection with our pragmas. The file is created and migrated by the writer.

    Raises:
        StoreUnavailable: the file cannot be opened or written.
        StoreCorrupt: it is damaged, or no database.
        StoreVersion: it belongs to a newer Cadenza, or to another program.
    """
    with errors_of(path):
        if writer and not path.parent.is_dir():
            raise StoreUnavailable(str(path), "its folder does not exist", f"Create it: mkdir -p {path.parent}")
        connection = apsw.Connection(str(path))
        connection.set_busy_handler(_patience())
        connection.pragma("journal_mode", "wal")
        connection.pragma("synchronous", "full")
        connection.pragma("wal_autocheckpoint", CHECKPOINT_PAGES if writer else 0)
        if writer:
            _migrate(connection, path)
        return connection


def _migrate(connection: apsw.Connection, path: Path) -> None:
    scripts = migrations()
    version = int(str(connection.pragma("user_version")))
    if version == len(scripts):
        _check_owner(connection, path)
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = int(str(connection.pragma("user_version")))  # another process may have been faster
        _check_owner(connection, path)
        if version > len(scripts):
            raise StoreVersion(
                str(path),
                f"written by a newer Cadenza (schema {version}; this one knows up to {len(scripts)}). "
                "Nothing was changed. Upgrade: pip install -U cadenza",
            )
        for script in scripts[version:]:
            connection.execute(script)
        connection.pragma("application_id", APPLICATION_ID)
        connection.pragma("user_version", len(scripts))
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _check_owner(connection: apsw.Connection, path: Path) -> None:
    application = int(str(connection.pragma("application_id")))
    tables = next(iter(connection.execute("SELECT count(*) FROM sqlite_schema")))[0]
    if tables and application != APPLICATION_ID:
        raise StoreVersion(str(path), "a database of another program. Nothing was changed. Give Cadenza a file of its own")


def _patience() -> Callable[[int], bool]:
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
def errors_of(path: Path) -> Iterator[None]:
    """Turns what SQLite reports into errors of ours."""
    try:
        yield
    except apsw.Error as error:
        raise explain(error, path) from error


def explain(error: apsw.Error, path: Path) -> StoreError:
    """The error of ours that says what happened to ``path``."""
    where = str(path)
    match error:
        case apsw.FullError():
            return StoreUnavailable(where, "the disk is full", "Free some space and start again: runs go on where they were.")
        case apsw.ReadOnlyError() | apsw.PermissionsError():
            return StoreUnavailable(where, "it is read-only", "Give this user the right to write to it and to its folder.")
        case apsw.CorruptError() | apsw.NotADBError():
            return StoreCorrupt(where, str(error))
        case apsw.CantOpenError():
            return StoreUnavailable(where, "it cannot be opened", "Check that the path is a file this user may write.")
        case apsw.BusyError() | apsw.LockedError():
            return StoreUnavailable(where, "another program holds its lock", "Close that program, or wait for it.")
        case apsw.IOError():
            return StoreUnavailable(where, f"the disk reports an error ({error})", "Check the disk, then start again.")
        case _:
            return StoreUnavailable(where, str(error), "Please report this.")
