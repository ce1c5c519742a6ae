"""Why instances should not be called now: open breakers, full bulkheads, and cards that say how much is enough."""

from __future__ import annotations

from cadenza.routing.balance import outstanding
from cadenza.routing.guard import guards
from cadenza.routing.instances import known


def limits_now(now: int) -> dict[str, str]:
    """The reason by the instance's key: ``breaker: …``, ``capacity: …``; only those that have one.

    Args:
        now: microseconds since 1970.
    """
    found: dict[str, str] = {}
    by_key = known().by_key
    for key, count in outstanding.busy().items():
        room = by_key[key].card.concurrency if key in by_key else None
        if room is not None and count >= room:
            found[key] = f"capacity: {count} of {room} calls under way"
    for (key, _), guard in list(guards.items()):
        if reason := guard.refusal(now):
            found[key] = reason
    return found
