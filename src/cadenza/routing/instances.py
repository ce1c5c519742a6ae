"""Where the router finds instances: every agent of this process, in its only instance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cadenza.agents.agent import AnyAgent, agents
from cadenza.agents.card import Card
from cadenza.errors import UnknownName
from cadenza.routing.candidates import Candidate


@dataclass(frozen=True, slots=True)
class OfCode:
    """An agent of this process."""

    agent: AnyAgent
    card: Card
    key: str
    healthy: bool = True


_of_code: dict[int, OfCode] = {}


def instances() -> Sequence[Candidate]:
    """All of them, as they are now."""
    for each in agents.values():
        known = _of_code.get(id(each))
        if known is None or known.agent is not each:
            card = each.card
            _of_code[id(each)] = OfCode(each, card, f"{card.name}@{card.version}/")
    return [_of_code[id(each)] for each in agents.values()]


def instance_of(key: str) -> Candidate:
    """The instance of this key; where a deploy has replaced it, the one that has its name. Raises UnknownName."""
    name, _, rest = key.partition("@")
    place = rest.partition("/")[2]
    known = instances()
    here = [each for each in known if each.card.name == name and each.agent is not None]
    same_place = [each for each in here if each.key.partition("/")[2] == place]
    for found in ([each for each in here if each.key == key], same_place, here):
        if found:
            return found[0]
    hint = "It was chosen, and this process has no code for it. Import the module that defines it."
    raise UnknownName("agent", name, {each.card.name for each in known}, hint)
