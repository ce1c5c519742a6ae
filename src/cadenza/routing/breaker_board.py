"""Breakers for other processes to see: each time one opens or closes, its state is written to the catalogue.

It is for people. Each process counts for itself, and opens a breaker for itself.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

from cadenza.engine.catalogue import Catalogue
from cadenza.routing.breaker import Seen

COMPONENT, VERSION = "routing_breaker", 1


def publish(catalogue: Catalogue, key: str, seen: Seen, now: int) -> None:
    """Write what has become of an instance's breaker. Raises StoreError."""
    row = (key, seen.state, seen.failed, seen.counted, seen.until, now)
    _with_tables(catalogue).write(lambda c: c.execute("REPLACE INTO routing_breaker VALUES (?, ?, ?, ?, ?, ?)", row))


def published(catalogue: Catalogue, now: int) -> dict[str, Seen]:
    """The breakers that are not closed, by the instance's key. Raises StoreError."""
    rows = _with_tables(catalogue).read(
        "SELECT key, failed, counted, until FROM routing_breaker WHERE state != 'closed'"
    )
    return {
        key: Seen("open" if now < until else "half-open", failed, counted, until)
        for key, failed, counted, until in rows
    }


def _with_tables(catalogue: Catalogue) -> Catalogue:
    catalogue.ensure(COMPONENT, VERSION, _tables())
    return catalogue


@cache
def _tables() -> str:
    return resources.files("cadenza.routing").joinpath("breaker_tables.sql").read_text(encoding="utf-8")
