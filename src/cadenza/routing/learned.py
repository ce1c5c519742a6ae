"""What was learned, kept in the catalogue: it survives the process, and all processes of one file learn together.

The file has the truth. An observation is folded into its row in one transaction that also writes its key, so that
processes cannot overwrite each other's, and one that was written before a crash is not counted again after it. Each
process works on a copy in memory, and reads the rows that others have changed since.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any
from weakref import WeakKeyDictionary

from cadenza.engine.catalogue import Catalogue
from cadenza.routing.learn import Learning, Observation, Performance, Record, folded

COMPONENT, VERSION = "routing_learned", 1
TRIMMED_EVERY = 1000  # observations


@dataclass(slots=True)
class Copy:
    """What is in memory: the knowledge, and the number of the last observation in it."""

    performance: Performance = field(default_factory=Performance)
    number: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Learned:
    """The knowledge in one store. Safe to use from any thread, but for ``performance``, which one loop draws from.

    Attributes:
        performance: the copy in memory, as of the last ``refresh`` or ``observe``.
    """

    def __init__(self, catalogue: Catalogue, learning: Learning | None = None, copy: Copy | None = None) -> None:
        """Read what is known. Raises StoreError."""
        self._catalogue = catalogue
        self._copy = copy or Copy(Performance(learning))
        self.performance = self._copy.performance
        catalogue.ensure(COMPONENT, VERSION, _tables())
        self.refresh()

    def observe(self, *observations: Observation) -> int:
        """Write observations, in one transaction; each key counts once, whichever process wrote it first.

        Returns:
            How many of them were new.

        Raises:
            StoreError: nothing was written.
        """
        learning = self.performance.learning
        counted = self._catalogue.write(lambda connection: sum(_write(connection, o, learning) for o in observations))
        self.refresh()
        return counted

    def refresh(self) -> None:
        """Read what others have learned; one look at an index where that is nothing. Raises StoreError."""
        with self._copy.lock:
            rows = self._catalogue.read(CHANGED, (self._copy.number,))
            if rows:
                self._copy.number = rows[-1][-1]
                self.performance.loaded(Record(*row[:-1]) for row in rows)


def learned_in(catalogue: Catalogue) -> Learned:
    """The knowledge in a store, with what other processes have learned until now. All callers share one copy of it.

    Raises:
        StoreError.
    """
    return Learned(catalogue, copy=_copies.setdefault(catalogue, Copy()))


@cache
def _tables() -> str:
    return resources.files("cadenza.routing").joinpath("learned_tables.sql").read_text("utf-8")


_copies: WeakKeyDictionary[Catalogue, Copy] = WeakKeyDictionary()
COLUMNS = ", ".join((*Record._fields, "number"))
CHANGED = f"SELECT {COLUMNS} FROM routing_performance WHERE number > ? ORDER BY number"
FOUND = f"SELECT {COLUMNS} FROM routing_performance WHERE instance = ? AND skill = ?"
CALLS = "SELECT coalesce(max(calls), 0) FROM routing_performance WHERE skill = ?"
WRITTEN = f"REPLACE INTO routing_performance ({COLUMNS}) VALUES ({', '.join('?' * (len(Record._fields) + 1))})"


def _write(connection: Any, seen: Observation, learning: Learning) -> int:
    connection.execute("INSERT OR IGNORE INTO routing_observed (key) VALUES (?)", (seen.key,))
    if not connection.changes():
        return 0
    number = connection.last_insert_rowid()
    found = connection.execute(FOUND, (seen.instance, seen.skill)).fetchall()
    record = Record(*found[0][:-1]) if found else Record(seen.instance, seen.skill, seen.at)
    calls = connection.execute(CALLS, (seen.skill,)).fetchall()[0][0] + 1
    connection.execute(WRITTEN, (*folded(record, seen, calls, learning), number))
    if number % TRIMMED_EVERY == 0:
        _trim(connection, number, learning)
    return 1


def _trim(connection: Any, number: int, learning: Learning) -> None:
    """Give up the keys, and the pairs, that were longest not seen."""
    connection.execute("DELETE FROM routing_observed WHERE number <= ?", (number - learning.keys_max,))
    connection.execute(
        """DELETE FROM routing_performance WHERE number <=
           (SELECT number FROM routing_performance ORDER BY number DESC LIMIT 1 OFFSET ?)""",
        (learning.pairs_max,),
    )
