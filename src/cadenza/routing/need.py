"""What is wanted of an agent by a caller who does not name one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Preset = Literal["quality", "balanced", "cheap", "fast"]


@dataclass(frozen=True, slots=True)
class Need:
    """What ``ctx.call`` is given in place of an agent: the registry finds the candidates, scorers rank them.

    Attributes:
        skill: the id of a skill that the agent must have; empty for any.
        description: what is to be done, in plain words; the input's text takes part where this is empty.
        tags: all of them must be among the tags of one of its skills.
        agent: only instances of this agent.
        data_class: the class of the data that it will see (``restricted``). A hard constraint.
        placement: labels that it must have (``eu``, ``edge``). A hard constraint.
        output_schema: JSON Schema that its output must satisfy; None for any.
        prefer: the weights of the scorers.
        weights: scorers' weights that differ from those of ``prefer``.
        abstain_below: with less confidence than this (0 to 1), no agent is chosen: see ``Choice.winner``.
        exclude: keys of instances that must not be chosen, most often because they have been tried.
        on_abstain: what to do then: ``raise`` Abstained, or ``ask`` a person what is wanted, and choose again.
        router: the name of an agent that chooses among the candidates (see ``model_router``); scorers do by default.
    """

    skill: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    agent: str = ""
    data_class: str = ""
    placement: tuple[str, ...] = ()
    output_schema: dict[str, Any] | None = None
    prefer: Preset = "balanced"
    weights: dict[str, float] = field(default_factory=dict[str, float])
    abstain_below: float = 0.0
    exclude: tuple[str, ...] = ()
    on_abstain: Literal["raise", "ask"] = "raise"
    router: str = ""
