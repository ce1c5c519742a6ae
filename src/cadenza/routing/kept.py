"""What the catalogue keeps of the registry: instances, the processes that run them, and probes.

Cards are written when they change; a heartbeat is one row, however many agents a process has.
"""

from __future__ import annotations

import dataclasses
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from cadenza.agents.card import Card
from cadenza.engine.catalogue import Catalogue
from cadenza.engine.lease import is_dead
from cadenza.routing.instance import Instance

BEAT_S = 5.0
STALE_S = 20.0
"""A process that has not been heard of for so long is taken to be gone."""
AGED_S = 15.0
"""How old the time of a last heartbeat may be in what is shown."""
FORGET_DAYS = 30.0
"""An instance that nobody has run for so long is forgotten, unless it was added from a card's URL."""
ROWS_MAX = 500
"""In one transaction: others wait for it."""
US = 1_000_000
GONE = "no process that runs it is heard of any more"
BY_CARD = ("http://", "https://")

UPSERT = """
INSERT INTO registry_instance VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET card = excluded.card, name = excluded.name, source = excluded.source,
    health_url = excluded.health_url, problem = excluded.problem, seen_at = max(seen_at, excluded.seen_at)
"""
CHANGED = "UPDATE registry_change SET count = count + 1"
FOLD = """
UPDATE registry_instance SET seen_at = max(seen_at, ?2)
WHERE key IN (SELECT key FROM registry_hosted WHERE worker = ?1)
"""
LEAVE = ("DELETE FROM registry_hosted WHERE worker = ?", "DELETE FROM registry_worker WHERE worker = ?")
FORGET = """
DELETE FROM registry_instance
WHERE seen_at < ? AND source NOT GLOB 'http*' AND key NOT IN (SELECT key FROM registry_hosted)
"""


class Worker(msgspec.Struct, frozen=True):
    """A process that runs agents."""

    name: str
    host: str
    pid: int
    seen_at: int


class Probe(msgspec.Struct, frozen=True):
    """What came of asking an instance whether it is well."""

    probed_at: int
    answered_at: int
    latency_s: float | None
    problem: str


class Known(msgspec.Struct):
    """What was read last; ``version`` grows when an instance differs from what was read before."""

    version: int = 0
    read_at: int = 0
    changed_at: int = 0
    count: int = -1
    cards: dict[str, tuple[bytes, Card]] = {}
    rows: dict[str, Instance] = {}
    hosted: dict[str, list[str]] = {}
    workers: dict[str, Worker] = {}
    probes: dict[str, Probe] = {}

    def workers_of(self, key: str) -> list[Worker]:
        """The living ones."""
        return [self.workers[each] for each in self.hosted.get(key, ()) if each in self.workers]


@cache
def tables() -> str:
    return Path(__file__).with_name("registry_tables.sql").read_text("utf-8")


def ensure(catalogue: Catalogue) -> None:
    catalogue.ensure("registry", 1, tables())


def read(catalogue: Catalogue, known: Known, now: int) -> Known:
    """Bring ``known`` up to date. Raises StoreError."""
    known.read_at = now
    if not catalogue.read("SELECT count(*) FROM sqlite_schema WHERE name = 'registry_change'")[0][0]:
        return known
    count = int(catalogue.read("SELECT count FROM registry_change")[0][0])
    workers = {
        row[0]: Worker(*row)
        for row in catalogue.read(
            "SELECT worker, host, pid, seen_at FROM registry_worker WHERE seen_at >= ?", (now - round(STALE_S * US),)
        )
        if not _is_gone(catalogue, row[0], row[1])
    }
    probes = {row[0]: Probe(*row[1:]) for row in catalogue.read("SELECT * FROM registry_probe")}
    aged = workers != known.workers and now - known.changed_at >= AGED_S * US
    if count != known.count or workers.keys() != known.workers.keys() or probes != known.probes or aged:
        known.version, known.changed_at = known.version + 1, now
    known.workers, known.probes = workers, probes
    if count != known.count:
        known.count = count
        cards, known.cards = known.cards, {}
        rows = catalogue.read("SELECT * FROM registry_instance ORDER BY rowid")
        for row in rows:  # a card that has not changed stays the same object: what was made of it is used again
            held = cards.get(row[0])
            same = held is not None and held[0] == row[1]
            known.cards[row[0]] = held if held and same else (row[1], msgspec.json.decode(row[1], type=Card))
        known.rows = {row[0]: _instance(row, known.cards[row[0]][1]) for row in rows}
        known.hosted = {}
        for worker, key in catalogue.read("SELECT worker, key FROM registry_hosted"):
            known.hosted.setdefault(key, []).append(worker)
    return known


def _is_gone(catalogue: Catalogue, worker: str, host: str) -> bool:
    """Whether this process of this host is provably gone: nobody holds its lock."""
    if catalogue.path is None or host != socket.gethostname():
        return False
    return is_dead(Path(f"{catalogue.path}-locks"), worker)


def _instance(row: tuple[Any, ...], card: Card) -> Instance:
    _, _, name, source, health_url, problem, seen_at = row
    return Instance(
        None,
        card,
        name,
        last_seen_at=seen_at,
        owner=card.owner,
        purpose=card.purpose,
        health_url=health_url,
        source=source,
        problem=problem,
    )


def judged(instance: Instance, known: Known) -> Instance:
    """The same with its health, as far as heartbeats and probes tell."""
    probe = known.probes.get(instance.key)
    workers = known.workers_of(instance.key)
    row = known.rows.get(instance.key)
    seen = [row.last_seen_at if row is not None else 0, *(each.seen_at for each in workers)]
    problem, healthy = instance.problem, True
    if probe is not None:
        seen.append(probe.answered_at)
        if probe.problem:
            problem, healthy = probe.problem, False
    if healthy and instance.agent is None and not workers and not instance.source.startswith(BY_CARD):
        problem, healthy = GONE, False
    return dataclasses.replace(instance, healthy=healthy, last_seen_at=max(seen), problem=problem, workers=len(workers))


class Keeper:
    """Writes what one process has, as the worker of this name, into one catalogue."""

    def __init__(self, catalogue: Catalogue, worker: str) -> None:
        self._catalogue, self._worker = catalogue, worker
        self._written: dict[str, Instance] = {}
        self._over = False

    def beat(self, instances: Sequence[Instance], now: int) -> None:
        """Say that this process is there, with these instances. Raises StoreError."""
        catalogue = self._catalogue
        ensure(catalogue)
        changed = [each for each in instances if self._written.get(each.key) is not each]
        keys = {each.key for each in instances}
        for start in range(0, len(changed), ROWS_MAX):
            write_rows(catalogue, changed[start : start + ROWS_MAX], now)
        hosts = bool(changed) or keys != self._written.keys()

        def beat(db: Any) -> None:
            if self._over:
                return
            known = db.execute("SELECT count(*) FROM registry_worker WHERE worker = ?", (self._worker,)).fetchone()[0]
            row = (self._worker, socket.gethostname(), os.getpid(), now)
            db.execute("REPLACE INTO registry_worker VALUES (?, ?, ?, ?)", row)
            if hosts or not known:
                db.execute(LEAVE[0], (self._worker,))
                db.executemany("INSERT INTO registry_hosted VALUES (?, ?)", [(self._worker, key) for key in keys])
                db.execute(CHANGED)

        catalogue.write(beat)
        self._written = {each.key: each for each in instances}
        self._sweep(now)

    def leave(self, now: int) -> None:
        """Say that this process is gone. Raises StoreError."""
        self._over = True
        if self._written:
            self._catalogue.write(lambda db: _bury(db, {self._worker: now}))

    def _sweep(self, now: int) -> None:
        """Bury processes that are long gone, and forget instances that nobody runs any more."""
        limit = now - round(STALE_S * US)
        rows = self._catalogue.read("SELECT worker, seen_at FROM registry_worker WHERE seen_at < ?", (limit,))
        old = now - round(FORGET_DAYS * 86_400 * US)
        if rows:
            self._catalogue.write(lambda db: _bury(db, dict(rows)))
        if self._catalogue.read("SELECT 1 FROM registry_instance WHERE seen_at < ? LIMIT 1", (old,)):
            self._catalogue.write(lambda db: db.execute(FORGET, (old,)))


def _bury(db: Any, workers: Mapping[str, int]) -> None:
    for worker, seen_at in workers.items():
        db.execute(FOLD, (worker, seen_at))
        for statement in LEAVE:
            db.execute(statement, (worker,))
    db.execute(CHANGED)


def write_rows(catalogue: Catalogue, instances: Iterable[Instance], now: int) -> None:
    """Write instances, whoever runs them. Raises StoreError."""
    ensure(catalogue)
    rows = [
        (each.key, msgspec.json.encode(each.card), each.name, each.source, each.health_url, each.problem, now)
        for each in instances
    ]

    def write(db: Any) -> None:
        db.executemany(UPSERT, rows)
        db.execute(CHANGED)

    catalogue.write(write)


def write_probe(catalogue: Catalogue, key: str, probe: Probe) -> None:
    """Write what came of a probe; the time of the last answer stays where there was none. Raises StoreError."""
    ensure(catalogue)
    statement = """
    INSERT INTO registry_probe VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (key) DO UPDATE SET probed_at = excluded.probed_at, latency_s = excluded.latency_s,
        answered_at = max(answered_at, excluded.answered_at), problem = excluded.problem
    """
    row = (key, probe.probed_at, probe.answered_at, probe.latency_s, probe.problem)
    catalogue.write(lambda db: db.execute(statement, row))


def forget(catalogue: Catalogue, key: str) -> bool:
    """Forget an instance; says whether it was known. Raises StoreError."""
    ensure(catalogue)

    def write(db: Any) -> bool:
        for statement in (
            "DELETE FROM registry_probe WHERE key = ?",
            "DELETE FROM registry_hosted WHERE key = ?",
            "DELETE FROM registry_instance WHERE key = ?",
        ):
            db.execute(statement, (key,))
        known = bool(db.changes())
        db.execute(CHANGED)
        return known

    return catalogue.write(write)
