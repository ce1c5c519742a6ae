"""What ``cadenza agents health`` looks at: each kind of agent can be asked something else."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cadenza.agents.human import HumanAgent
from cadenza.cli.agents_view import as_dict, seen
from cadenza.engine.catalogue import Catalogue
from cadenza.routing.breaker import Seen
from cadenza.routing.breaker_board import published
from cadenza.routing.instance import Instance
from cadenza.routing.registry import registry

State = Literal["well", "ill", "unknown"]


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found of one instance."""

    instance: Instance
    state: State
    detail: str
    latency_s: float | None = None

    @property
    def shown(self) -> str:
        return f"{self.detail}" + (f" ({self.latency_s * 1_000:.0f} ms)" if self.latency_s is not None else "")

    def as_dict(self) -> dict[str, Any]:
        shown = as_dict(self.instance)
        del shown["card"]
        return shown | {"health": self.state, "detail": self.detail, "latency_s": self.latency_s}


async def checked(instances: Sequence[Instance], catalogue: Catalogue | None) -> list[Checked]:
    """Ask all of them, those over the network at once; keep what they answered, if there is a catalogue."""
    from cadenza.routing.health import probe_all

    probes = await probe_all(registry, catalogue, instances)
    found: list[Checked] = []
    for each in instances:
        probe = probes.get(each.key)
        if probe is not None and probe.problem:
            found.append(Checked(each, "ill", probe.problem))
        elif probe is not None:
            found.append(Checked(each, "well", "it answers", probe.latency_s))
        else:
            found.append(await asyncio.to_thread(_unasked, each))
    breakers = {} if catalogue is None else published(catalogue, registry.now())
    return [_with_breaker(each, breakers.get(each.instance.key), registry.now()) for each in found]


def _with_breaker(found: Checked, breaker: Seen | None, now: int) -> Checked:
    """What calls have seen of it counts more than what it says itself."""
    if breaker is None:
        return found
    failed = f"{breaker.failed} of its last {breaker.counted} calls have failed"
    when = f"for another {(breaker.until - now) / 1e6:.0f} s" if breaker.state == "open" else "until a probe succeeds"
    return dataclasses.replace(found, state="ill", detail=f"its breaker is {breaker.state} {when}: {failed}")


def _unasked(instance: Instance) -> Checked:
    agent: Any = instance.agent
    if agent is None:
        if not instance.healthy:
            ago = f"; last seen {seen(instance)}" if instance.last_seen_at else ""
            return Checked(instance, "ill", f"{instance.problem}{ago}")
        if instance.workers:
            return Checked(instance, "well", f"heard of {seen(instance)}")
        return Checked(instance, "unknown", instance.problem or "nobody can be asked")
    if instance.problem:
        return Checked(instance, "ill", instance.problem)
    if models := getattr(agent, "model_names", ()):
        return _of_models(instance, models)
    if command := getattr(agent, "command", ()):
        missing = shutil.which(command[0]) is None
        return Checked(
            instance, "ill" if missing else "well", f"{command[0]} {'is not there' if missing else 'is there'}"
        )
    if isinstance(agent, HumanAgent):
        return Checked(instance, "unknown", "a person, who is not asked")
    return Checked(instance, "well", "runs in this process")


def _of_models(instance: Instance, models: Sequence[str]) -> Checked:
    from cadenza.agents.models import reachable

    asked = [(name, *reachable(name)) for name in models]
    well = any(ok for _, ok, _ in asked)
    return Checked(instance, "well" if well else "ill", "; ".join(f"{name}: {what}" for name, _, what in asked))
