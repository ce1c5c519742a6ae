"""The agent card: who an agent is and what it can do. The A2A agent card's fields plus what orchestration needs.

Source: A2A protocol 1.0, "Agent Card" (name, description, version, skills with id, name, description, tags, examples).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from cadenza.errors import DefinitionError


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
        data_classes: classes of data that it may see (``restricted``). Data without a class may be seen by any agent;
            data of a class only by agents that list it, so that an agent which says nothing never sees any.
        input_schema, output_schema: JSON Schema, made from the function's types.
        concurrency: how many calls it can take at once; None is not limited.
        requests_per_minute, tokens_per_minute: its rate limit; None is not limited.
        owner: the person or team that answers for it.
        purpose: what it is there for, where its description says what it does.

    Raises:
        DefinitionError: a number that makes no sense, or one text in place of several.
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
    concurrency: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    owner: str = ""
    purpose: str = ""

    def __post_init__(self) -> None:
        for name in ("skills", "placement", "data_classes"):
            given: Any = getattr(self, name)
            if isinstance(given, str):
                raise DefinitionError(f"{self.name}: {name} is a tuple: write {name}=({given!r},)")
            object.__setattr__(self, name, tuple(given))
        if not self.version or any(each in self.version for each in "/@ "):
            raise DefinitionError(
                f"{self.name}: the version {self.version!r} must be a text without '/', '@' and spaces"
            )
        for name in ("concurrency", "requests_per_minute", "tokens_per_minute"):
            if (limit := getattr(self, name)) is not None and limit < 1:
                raise DefinitionError(f"{self.name}: {name} is at least 1, or None for no limit; not {limit!r}")
        for name in ("price_usd", "latency_s"):
            if (prior := getattr(self, name)) is not None and not (math.isfinite(prior) and prior >= 0):
                raise DefinitionError(f"{self.name}: {name} is 0 or more, or None if it is unknown; not {prior!r}")

    def may_see(self, data_class: str) -> bool:
        """Whether it may be given data of this class; any agent may be given data without one (``""``)."""
        return not data_class or data_class in self.data_classes
