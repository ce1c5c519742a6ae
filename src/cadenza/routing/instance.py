"""One place where an agent runs, as the registry knows it."""

from __future__ import annotations

from dataclasses import dataclass, field

from cadenza.agents.agent import AnyAgent
from cadenza.agents.card import Card


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance of an agent.

    Attributes:
        key: ``agent@version/instance``: unique.
        agent: what is called; None if this process has no code for it and only knows of it.
        name: of the instance; empty for the only one.
        healthy: false if its heartbeats or probes have stopped; what was never heard of or probed is taken to be well.
        last_seen_at: the last heartbeat of a process that runs it, or the last probe that it answered; microseconds
            since 1970, 0 for never.
        owner: the person or team that answers for it.
        health_url: is asked by ``GET`` whether it is well; empty if it cannot be asked.
        source: where the registry knows it from: ``code``, a file, or the URL of its card.
        problem: why it is not healthy, or cannot be called; empty if neither.
        workers: how many living processes run it.
    """

    agent: AnyAgent | None
    card: Card
    name: str = ""
    healthy: bool = True
    last_seen_at: int = 0
    owner: str = ""
    purpose: str = ""
    health_url: str = ""
    source: str = "code"
    problem: str = ""
    workers: int = 0
    key: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", f"{self.card.name}@{self.card.version}/{self.name}")
