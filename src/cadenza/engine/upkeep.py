"""Operations by which a store is kept in order: purging ended runs, and alerts on their way to people.

An operation is one transaction; see store.py for the others and for the protocol.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from cadenza.engine.filter import Filter

R = TypeVar("R")


class Operation(msgspec.Struct, Generic[R], frozen=True):
    """One transaction; ``R`` is what it results in."""


class TakeAlert(Operation[bool], frozen=True):
    """Take an alert to deliver it: it is due again at ``due_at``. Results in whether nobody else took it before."""

    id: int
    attempts: int
    due_at: int


class DropAlert(Operation[None], frozen=True):
    """An alert was delivered, or is given up."""

    id: int


class AlertRow(msgspec.Struct, frozen=True):
    """People are to be told that a run has failed or is blocked."""

    id: int
    run_id: str
    workflow: str
    status: str
    detail: str
    at: int
    attempts: int = 0
    due_at: int = 0


class Purge(Operation["Purged"], frozen=True):
    """Delete what is left of runs that ``filter`` names, the oldest ends first: journal, letters, attributes, payloads.

    Only runs that are purgeable (see Filter) are taken, whatever the filter says, at most ``filter.limit``. Of long
    journals, at most ``events_max`` events are deleted in one transaction; nobody can see the rest.
    """

    filter: Filter
    events_max: int = 2_000


class Purged(msgspec.Struct, frozen=True):
    """What a purge has deleted, and whether there may be more to do."""

    run_ids: tuple[str, ...] = ()
    events: int = 0
    more: bool = False
