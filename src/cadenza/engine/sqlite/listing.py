"""The statement that lists the runs of a filter: only conditions that it has, so that SQLite can choose an index."""

from __future__ import annotations

from typing import Any

import msgspec

from cadenza.durable.events import Scalar
from cadenza.engine.filter import Filter, kind_of
from cadenza.engine.sqlite.sql import queries
from cadenza.engine.store import ENDED

TYPES = {"flag": ("blob", "blob"), "text": ("text", "text"), "number": ("integer", "real")}
"""What SQLite calls the values of each kind."""
NAMES = {"=": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}


def listing(filter: Filter, *, earliest_end_first: bool = False) -> tuple[str, dict[str, Any]]:
    """The statement and its bindings."""
    sql = queries()
    parts = [sql["list_runs"]]
    bindings: dict[str, Any] = {
        "any_status": not filter.status,
        "statuses": _json(filter.status),
        "workflow": filter.workflow,
        "limit": filter.limit,
    }
    if len(filter.status) == 1 and filter.status[0] in ENDED:
        parts.append(sql["with_ended_status"])
        bindings["only_status"] = filter.status[0]
    if filter.parent:
        parts.append(sql["with_parent"])
        bindings["parent"] = filter.parent
    if filter.run_ids:
        parts.append(sql["with_run_id"])
        bindings["run_ids"] = _json(filter.run_ids)
    if filter.ended_before:
        parts.append(sql["with_early_end"])
        bindings["ended_before"] = filter.ended_before
    if filter.purgeable:
        parts.append(sql["with_purgeable"])
    for number, condition in enumerate(filter.attributes):
        names = [f"{part}_{number}" for part in ("name", "value", "type", "or_type")]
        found = sql[f"with_attribute_{NAMES[condition.comparison]}"]
        for name in names:
            found = found.replace("?", f":{name}", 1)
        parts.append(found)
        values = condition.name, as_value(condition.value), *TYPES[kind_of(condition.value)]
        bindings |= dict(zip(names, values, strict=True))
    order = "earliest_end_first" if earliest_end_first else "newest_first"
    return f"{' AND '.join(parts)}\n{sql[order]}", bindings


def as_value(value: Scalar) -> str | int | float | bytes:
    """An attribute as SQLite keeps it. It has no type for flags: they are blobs of one byte."""
    return bytes([value]) if isinstance(value, bool) else value


def from_value(value: str | float | bytes) -> Scalar:
    return value != b"\x00" if isinstance(value, bytes) else value


def _json(texts: tuple[str, ...]) -> str:
    return msgspec.json.encode(texts).decode()
