"""The catalogue: tables of the layers above, in the store's own file, so that a backup and a restart have them too.

It has connections of its own, which are opened when it is first used. Its writes wait at the turnstile like any other
writer's, and its transactions are short: neither the engine nor another process waits for more than one of them. A
write is atomic, and on disk with the next commit of the engine: after a loss of power the last ones may be missing,
never half of one. What is in it is plain, also in a store that is encrypted: put no payloads here.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cadenza.durable.guard import DeterministicLoop
from cadenza.errors import StoreVersion, UsageError

if TYPE_CHECKING:
    from cadenza.engine.sqlite.turnstile import Turnstile

T = TypeVar("T")
Connection = Any
"""``apsw.Connection``: see engine/sqlite/database.py."""
LOG_PAGES_MAX = 4_000
"""The engine's writer folds the log in long before; this is for engines that write nothing but the catalogue."""
COMPONENTS = "CREATE TABLE IF NOT EXISTS catalogue_component (name TEXT PRIMARY KEY, version INTEGER NOT NULL) STRICT"


class Catalogue:
    """SQL on the store's file; safe to use from any thread. Close it with the engine.

    Args:
        path: of the store's file; None for one in memory, which ends with its engine.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._writing = threading.RLock()  # where both are held, it is taken first
        self._reading = threading.RLock() if path is not None else self._writing
        self._writer: Any = None
        self._reader: Any = None
        self._turnstile: Turnstile | None = None
        self._ensured: dict[str, int] = {}
        self._closed = False

    @property
    def location(self) -> str:
        return ":memory:" if self.path is None else str(self.path)

    def ensure(self, component: str, version: int, script: str) -> None:
        """Run ``script`` once in the life of the file: the step of a component's tables to ``version`` (1, 2, …).

        Call it for each version, in order, before the tables are used; it costs nothing the second time. Versions only
        add to what was there, because an older program may share the file.

        Raises:
            StoreVersion: a version before it is missing. StoreError.
        """
        if self._ensured.get(component, 0) >= version:
            return

        def step(connection: Connection) -> int:
            connection.execute(COMPONENTS)
            rows = connection.execute("SELECT version FROM catalogue_component WHERE name = ?", (component,)).fetchall()
            found = int(rows[0][0]) if rows else 0
            if found >= version:
                return found
            if found < version - 1:
                problem = f"the tables of {component} are of version {found}; {version} follows {version - 1}"
                raise StoreVersion(self.location, problem)
            connection.execute(script)
            connection.execute("REPLACE INTO catalogue_component VALUES (?, ?)", (component, version))
            return version

        self._ensured[component] = self._known(component, version) or self.write(step)

    def _known(self, component: str, version: int) -> int:
        """The version that is recorded, if it will do; so that a store that has all tables is only read."""
        present = self.read("SELECT count(*) FROM sqlite_schema WHERE name = 'catalogue_component'")[0][0]
        found = self.read("SELECT version FROM catalogue_component WHERE name = ?", (component,)) if present else []
        return found[0][0] if found and found[0][0] >= version else 0

    def read(self, sql: str, args: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a statement that only reads; what was committed before this is called.

        Raises:
            UsageError: the engine is closed. StoreError; ``apsw.SQLError`` where the SQL itself is wrong.
        """
        if self._reader is None:
            with self._writing:
                self._open()
        with self._reading:
            self._check_open()
            return self._guarded(lambda: self._reader.execute(sql, tuple(args)).fetchall())

    def write(self, fn: Callable[[Connection], T]) -> T:
        """Call ``fn`` in one transaction, which is rolled back if it raises; returns its result.

        It may be called from the engine's loop, as a commit takes well under a millisecond where nobody else writes;
        what is not urgent is better written with ``asyncio.to_thread``. A write within a write is part of it.

        Raises:
            UsageError: the engine is closed. StoreError; what ``fn`` raises.
        """
        with self._writing:
            self._open()
            if self._writer.in_transaction:
                return fn(self._writer)
            turnstile = self._turnstile
            if turnstile is None:
                return self._guarded(lambda: self._transact(fn))
            self._guarded(turnstile.enter)
            try:
                return self._guarded(lambda: self._transact(fn))
            finally:
                turnstile.leave()

    def close(self) -> None:
        """Close the connections; a write under way ends first."""
        with self._writing, self._reading:
            self._closed = True
            if self._turnstile is not None:
                self._turnstile.close()
            for each in dict.fromkeys((self._reader, self._writer)):
                if each is not None:
                    from cadenza.engine.sqlite.database import close

                    close(each)
            self._reader = self._writer = self._turnstile = None

    def _transact(self, fn: Callable[[Connection], T]) -> T:
        connection = self._writer
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = fn(connection)
            connection.execute("COMMIT")
            return result
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def _guarded(self, fn: Callable[[], T]) -> T:
        import apsw

        from cadenza.engine.sqlite.database import explain

        try:
            return fn()
        except (apsw.SQLError, apsw.ConstraintError, apsw.BindingsError):
            raise  # the caller's own mistake
        except (apsw.Error, OSError) as error:
            raise explain(error, Path(self.location)) from error

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError("the catalogue is closed: its engine is. Use it inside of: async with Engine.open(...)")

    def _open(self) -> None:
        self._check_open()
        if self._writer is not None:
            return
        import apsw

        from cadenza.engine.sqlite.database import connect
        from cadenza.engine.sqlite.turnstile import Turnstile

        if self.path is None:
            self._reader = self._writer = apsw.Connection(":memory:")
            return
        path = self.path
        writer: Any = connect(path, writer=False)
        writer.pragma("synchronous", "normal")
        writer.pragma("wal_autocheckpoint", LOG_PAGES_MAX)
        self._reader = connect(path, writer=False)
        self._turnstile = self._guarded(lambda: Turnstile(Path(f"{path}-locks")))
        self._writer = writer


current_catalogue: ContextVar[Catalogue] = ContextVar("cadenza_catalogue")
"""The catalogue of the engine that runs the current step. There is none outside of steps: ``get(None)``."""


def catalogue_of_step() -> Catalogue | None:
    """The same; None in workflow code too, which must not read, and may have been woken by what a step did."""
    if isinstance(asyncio._get_running_loop(), DeterministicLoop):
        return None
    return current_catalogue.get(None)
