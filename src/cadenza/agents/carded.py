"""What every agent has: a name, and a card with the schemas of its types."""

from __future__ import annotations

import dataclasses
import functools
from abc import ABC, abstractmethod
from typing import Any, get_args

from cadenza.agents.agent import AnyAgent
from cadenza.agents.card import Card
from cadenza.agents.json_schema import Fits
from cadenza.durable import codec


class Carded(ABC):
    """An agent by its card; ``types`` are those of its input and its output.

    Attributes:
        survivor: what ``invoke`` hands its calls to, if the agent has a policy.
    """

    survivor: AnyAgent | None = None

    def __init__(self, card: Card) -> None:
        self._card = card

    @property
    def name(self) -> str:
        return self._card.name

    @property
    def card(self) -> Card:
        """The card with the schemas of the input and the output, made when it is first looked at."""
        return self._described

    @functools.cached_property
    def _described(self) -> Card:
        given, made = self.types
        return dataclasses.replace(
            self._card, input_schema=schema_of(given, "validation"), output_schema=schema_of(made, "serialization")
        )

    @property
    @abstractmethod
    def types(self) -> tuple[Any, Any]: ...

    def __repr__(self) -> str:
        return f"<agent {self.name}>"


def schema_of(annotation: Any, mode: str) -> dict[str, Any]:
    """A type's JSON Schema (2020-12); the one that it was made of, if there is one."""
    marks = [each for each in get_args(annotation)[1:] if isinstance(each, Fits)]
    return marks[0].schema if marks else codec.adapter(annotation).json_schema(mode=mode)
