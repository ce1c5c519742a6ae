"""Who may be chosen at all: filters in a fixed order, each with its reason. No score outweighs a filter.

fit          the agent, skill and tags that are needed
schema       the input is one that it accepts, its output one that the caller can use
placement    the labels of where it runs                     hard: looked at again when the agent is called
data class   what it may see                                 hard: likewise
health       it is alive, and this process has its code
breaker …    gates that the layers above supply
capacity     it has room; where nobody has, all stay
exclude      it has been tried
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cadenza.agents.card import Card
from cadenza.agents.json_schema import type_of
from cadenza.durable import codec
from cadenza.errors import CadenzaError, DefinitionError, InputInvalid
from cadenza.routing.discovery import input_type
from cadenza.routing.instance import Instance
from cadenza.routing.need import Need
from cadenza.routing.schema_fit import misfit

REMEMBERED_MAX = 128


Refused = dict[str, list[str]]
"""Keys of instances by the reason for which they are no candidates, in the order of the filters."""


def filtered(
    need: Need, given: Any, instances: Sequence[Instance], limits: Mapping[str, str]
) -> tuple[list[Instance], Refused]:
    """The candidates, in the order of ``instances``, and why the others are none.

    Args:
        given: the input, as plain data.
        limits: why an instance should not be called now, by its key: ``breaker: …``, ``capacity: …``.
    """
    cards, accepts = _cards_for(need), _Accepts(given)
    static, excluded = cards.reasons, frozenset(need.exclude)
    found: list[Instance] = []
    refused: Refused = {}
    for each in instances:
        known = static.get(id(each.card))
        reason = cards.refusal(each.card) if known is None else known[1]
        reason = reason or accepts.refusal(each) or cards.misplaced(each.card)
        if not reason and (each.agent is None or not each.healthy):
            reason = f"health: {each.problem or ('no code for it here' if each.agent is None else 'not heard of')}"
        if not reason and limits and not (reason := limits.get(each.key, "")).startswith("breaker"):
            reason = ""
        if not reason and each.key in excluded:
            reason = "exclude: it has been tried"
        if reason:
            refused.setdefault(reason, []).append(each.key)
        else:
            found.append(each)
    return _with_room(found, refused, limits), refused


def misplaced(need: Need, card: Card) -> str:
    """Why this agent must not be given such data; empty if it may. The one rule, wherever it is looked at."""
    if missing := [label for label in need.placement if label not in card.placement]:
        return f"placement: it has {', '.join(card.placement) or 'none'}, {', '.join(missing)} is needed"
    if not card.may_see(need.data_class):
        return f"data class: it may see {', '.join(card.data_classes) or 'none'}, not {need.data_class}"
    return ""


def _with_room(found: list[Instance], refused: Refused, limits: Mapping[str, str]) -> list[Instance]:
    room = [each for each in found if each.key not in limits] if limits else found
    if not room:  # a queue is better than nobody
        return found
    if len(room) < len(found):
        for each in found:
            if each.key in limits:
                refused.setdefault(limits[each.key], []).append(each.key)
    return room


# --- what depends on the card alone -----------------------------------------------------------------------------------


class _Cards:
    """What cards say to one kind of need. A card is frozen: what it says is found out once."""

    def __init__(self, need: Need) -> None:
        self._need = need
        self._constrained = bool(need.placement or need.data_class)
        self.reasons: dict[int, tuple[Card, str]] = {}

    def refusal(self, card: Card) -> str:
        reason = _unfit(self._need, card)
        self.reasons[id(card)] = (card, reason)  # with the card, so that its id stays its own
        return reason

    def misplaced(self, card: Card) -> str:
        return misplaced(self._need, card) if self._constrained else ""


_remembered: dict[Any, _Cards] = {}


def _cards_for(need: Need) -> _Cards:
    wanted = json.dumps(need.output_schema, sort_keys=True) if need.output_schema is not None else ""
    kind = (need.skill, need.tags, need.agent, need.data_class, need.placement, wanted)
    cards = _remembered.pop(kind, None) or _Cards(need)
    if len(cards.reasons) > 100_000:  # cards that came and went
        cards = _Cards(need)
    _remembered[kind] = cards
    if len(_remembered) > REMEMBERED_MAX:
        del _remembered[next(iter(_remembered))]
    return cards


def _unfit(need: Need, card: Card) -> str:
    if need.agent and card.name != need.agent:
        return f"fit: {need.agent} is needed"
    if need.skill and not any(skill.id == need.skill for skill in card.skills):
        return f"fit: it has no skill {need.skill!r}"
    if need.tags and not any(set(need.tags) <= set(skill.tags) for skill in card.skills):
        return f"fit: no skill of its has the tags {', '.join(need.tags)}"
    if need.output_schema is not None and (problem := misfit(card.output_schema, need.output_schema)):
        return f"schema: {problem}"
    return ""


# --- what depends on the input ----------------------------------------------------------------------------------------


class _Accepts:
    """Whether instances accept one input: by their own types where there is code, else by their card's schema. Equal
    types and schemas are asked once."""

    def __init__(self, given: Any) -> None:
        self._given = given
        self._said: dict[Any, str] = {}

    def refusal(self, instance: Instance) -> str:
        asked = _asked.get(id(instance))
        if asked is None or asked[0] is not instance:
            asked = _ask_of(instance)
        kind = asked[1]
        said = self._said.get(kind)
        if said is None:
            said = self._said[kind] = self._ask(asked[2])
        return said

    def _ask(self, takes: Any) -> str:
        try:
            codec.coerce(self._given, takes, "the input")
        except InputInvalid as error:
            field, problem, _ = error.problems[0]
            said = problem.lower().removeprefix("input ")
            return f"schema: the input {said}" if field == "(all)" else f"schema: the input's {field}: {said}"
        except CadenzaError as error:
            return f"schema: {error}"
        return ""


ASKED_MAX = 50_000
_asked: dict[int, tuple[Instance, Any, Any]] = {}
"""Of instances: what their type is known by, and the type."""
_types_of_schemas: dict[str, Any] = {}


def _ask_of(instance: Instance) -> tuple[Instance, Any, Any]:
    takes: Any = input_type(instance.agent) if instance.agent is not None else None
    kind: Any = id(takes)
    if takes is None:
        takes, kind = _type_of_schema(instance.card)
    if len(_asked) > ASKED_MAX:
        _asked.clear()
    made = _asked[id(instance)] = (instance, kind, takes)
    return made


def _type_of_schema(card: Card) -> tuple[Any, Any]:
    if card.input_schema is None:
        return Any, "any"
    kind = json.dumps(card.input_schema, sort_keys=True)
    if kind not in _types_of_schemas:
        if len(_types_of_schemas) > ASKED_MAX:
            _types_of_schemas.clear()
        try:
            _types_of_schemas[kind] = type_of(card.input_schema, f"the input of {card.name}")
        except DefinitionError:
            _types_of_schemas[kind] = Any  # the call itself says what is wrong with it
    return _types_of_schemas[kind], kind
