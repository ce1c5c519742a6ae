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
) -> tuple[Sequence[Instance], Refused]:
    """The candidates, in the order of ``instances``, and why the others are none.

    Args:
        given: the input, as plain data.
        instances: the same object, as long as nothing has changed: what does not depend on the call is kept for it.
        limits: why an instance should not be called now, by its key: ``breaker: …``, ``capacity: …``.
    """
    sieve, accepts = _sieve_for(need, instances), _Accepts(given)
    if accepts.all(sieve.kinds):
        found, refused = sieve.found, sieve.refused
    else:
        found, refused = sieve.sift(accepts)
    excluded = frozenset(need.exclude)
    if excluded or limits:
        refused = {reason: list(keys) for reason, keys in refused.items()}
        left: list[Instance] = []
        for each in found:
            reason = limits.get(each.key, "")
            if not reason.startswith("breaker"):
                reason = "exclude: it has been tried" if each.key in excluded else ""
            if reason:
                refused.setdefault(reason, []).append(each.key)
            else:
                left.append(each)
        found = _with_room(left, refused, limits)
    return found, refused


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


class _Sieve:
    """What one kind of need says of one state of the registry, whatever the input. Cards and instances are frozen."""

    def __init__(self, need: Need, instances: Sequence[Instance]) -> None:
        self.instances = instances
        self._reasons = [_static(need, each) for each in instances]
        self.found = [each for each, reason in zip(instances, self._reasons, strict=True) if not reason]
        self.refused: Refused = {}
        self.kinds: dict[Any, Any] = {}
        for each, reason in zip(instances, self._reasons, strict=True):
            if reason:
                self.refused.setdefault(reason, []).append(each.key)
            else:
                asked = _asked_of(each)
                self.kinds[asked[1]] = asked[2]

    def sift(self, accepts: _Accepts) -> tuple[list[Instance], Refused]:
        """The same with the input: what it does not fit comes before placement, in the table."""
        found: list[Instance] = []
        refused: Refused = {}
        for each, static in zip(self.instances, self._reasons, strict=True):
            reason = static
            if not static.startswith(("fit", "schema")):
                reason = accepts.refusal(each) or static
            if reason:
                refused.setdefault(reason, []).append(each.key)
            else:
                found.append(each)
        return found, refused


_sieves: dict[Any, _Sieve] = {}


def _sieve_for(need: Need, instances: Sequence[Instance]) -> _Sieve:
    wanted = json.dumps(need.output_schema, sort_keys=True) if need.output_schema is not None else ""
    kind = (need.skill, need.tags, need.agent, need.data_class, need.placement, wanted)
    sieve = _sieves.pop(kind, None)
    if sieve is None or sieve.instances is not instances:
        sieve = _Sieve(need, instances)
    _sieves[kind] = sieve
    if len(_sieves) > REMEMBERED_MAX:
        del _sieves[next(iter(_sieves))]
    return sieve


def _static(need: Need, each: Instance) -> str:
    reason = _unfit(need, each.card) or misplaced(need, each.card)
    if not reason and (each.agent is None or not each.healthy):
        why = "no code for it here" if each.agent is None else "not heard of"
        return f"health: {each.problem or why}"
    return reason


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
        _, kind, takes = _asked_of(instance)
        return self._said_of(kind, takes)

    def all(self, kinds: Mapping[Any, Any]) -> bool:
        """Whether it fits every one of these types."""
        return not any(self._said_of(kind, takes) for kind, takes in kinds.items())

    def _said_of(self, kind: Any, takes: Any) -> str:
        said = self._said.get(kind)
        if said is None:
            said = self._said[kind] = self._ask(takes)
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


def _asked_of(instance: Instance) -> tuple[Instance, Any, Any]:
    known = _asked.get(id(instance))
    if known is not None and known[0] is instance:
        return known
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
