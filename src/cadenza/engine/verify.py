"""Development mode: a finished run is replayed on a fresh machine, and must do what it did."""

from __future__ import annotations

from cadenza.durable import events
from cadenza.durable.machine import Machine
from cadenza.errors import Evicted, Nondeterminism

ADVICE = "Clocks and randomness come from ctx.now(), ctx.random and ctx.uuid(); try: cadenza check"


def difference(machine: Machine, journal: list[events.AnyEvent]) -> str:
    """What a replay of ``journal`` does otherwise than ``machine``, which has a trace, did; empty if nothing."""
    last = next((i for i, each in enumerate(journal) if isinstance(each, events.TERMINALS)), len(journal) - 1)
    twin = Machine(machine.workflow, [])
    try:
        twin.replay(journal[: last + 1])
    except (Nondeterminism, Evicted) as error:
        return f"{error}. {ADVICE}"
    for live, again in zip(machine.trace or [], twin.trace or [], strict=False):
        if live != again:
            return f"a replay of this run did {again!r} where it had done {live!r}. {ADVICE}"
    return ""
