"""The agent card: who an agent is and what it can do. The A2A agent card's fields plus what orchestration needs.

Source: A2A protocol 1.0, "Agent Card" (name, description, version, skills with id, name, description, tags, examples).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Skill:
    """Something that an agent can do.

    Attributes:
        id: unique within the agent.
        description: for people, and for whoever chooses an agent.
        tags: keywords.
        examples: inputs in plain words.
    """

    id: str
    description: str = ""
    tags: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Card:
    """An agent's card.

    Attributes:
        name: unique in the project; ``ctx.call`` and step paths use it.
        price_usd: expected price of a call in US dollars; None is unknown, which is not zero.
        latency_s: expected seconds of a call; None is unknown.
        placement: labels of where it runs (``edge``, ``cloud``).
        data_classes: classes of data that it may see; empty is any.
        input_schema, output_schema: JSON Schema, made from the function's types.
    """

    name: str
    description: str = ""
    version: str = "1"
    skills: tuple[Skill, ...] = ()
    price_usd: float | None = None
    latency_s: float | None = None
    placement: tuple[str, ...] = ()
    data_classes: tuple[str, ...] = ()
    input_schema: dict[str, Any] | None = None
    output_schema: dict[str, Any] | None = None
