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
from collections.abc import Sequence
from typing import Any, Protocol, cast

from cadenza.agents.agent import AnyAgent
from cadenza.agents.card import Card
from cadenza.agents.json_schema import Fits
from cadenza.errors import DefinitionError
from cadenza.routing.need import Need

REMEMBERED_MAX = 128


class Candidate(Protocol):
    """One place where an agent runs."""

    @property
    def key(self) -> str: ...
    @property
    def card(self) -> Card: ...
    @property
    def agent(self) -> AnyAgent | None: ...
    @property
    def healthy(self) -> bool: ...


class Gate(Protocol):
    """A filter that depends on how the instance is doing now: a breaker, a bulkhead."""

    name: str

    def refusal(self, candidate: Candidate, now: int) -> str:
        """Why it must not be called now, in a few words; empty if it may. ``now`` in microseconds."""
        ...


gates: dict[str, Gate] = {}
"""By name, in the order in which they are asked; ``capacity`` is the last, whoever supplies it."""

Refused = dict[str, list[str]]
"""Keys of instances by the reason for which they are no candidates, in the order of the filters."""


def filtered(need: Need, given: Any, instances: Sequence[Candidate], now: int) -> tuple[list[Candidate], Refused]:
    """The candidates, in the order of ``instances``, and why the others are none.

    Args:
        given: the input, as plain data.
        now: microseconds since 1970.
    """
    cards, accepts = _cards_for(need), _Accepts(given)
    static, found = cards.reasons, list[Candidate]()
    refused: Refused = {}
    excluded = frozenset(need.exclude)
    asked = [gate for name, gate in gates.items() if name != "capacity"]
    for each in instances:
        card = each.card
        known = static.get(id(card))
        reason = cards.refusal(card) if known is None else known[1]
        if not reason:
            reason = accepts.refusal(card) or _placed(cards, card) or _doing(each, asked, now)
            if not reason and each.key in excluded:
                reason = "exclude: it has been tried"
        if reason:
            refused.setdefault(reason, []).append(each.key)
        else:
            found.append(each)
    return _with_room(found, refused, now), refused


def misplaced(placement: Sequence[str], data_class: str, card: Card) -> str:
    """Why this agent must not be given such data; empty if it may. The one rule, wherever it is looked at."""
    if missing := [label for label in placement if label not in card.placement]:
        return f"placement: it has {', '.join(card.placement) or 'none'}, {', '.join(missing)} is needed"
    if not card.may_see(data_class):
        return f"data class: it may see {', '.join(card.data_classes) or 'none'}, not {data_class}"
    return ""


def _placed(cards: _Cards, card: Card) -> str:
    return cards.placed[id(card)] if cards.constrained else ""


def _doing(each: Candidate, asked: list[Gate], now: int) -> str:
    if each.agent is None:
        return "health: this process has no code for it"
    if not each.healthy:
        return "health: it is not heard of"
    for gate in asked:
        if reason := gate.refusal(each, now):
            return f"{gate.name}: {reason}"
    return ""


def _with_room(found: list[Candidate], refused: Refused, now: int) -> list[Candidate]:
    capacity = gates.get("capacity")
    if capacity is None or not found:
        return found
    full = {each.key: reason for each in found if (reason := capacity.refusal(each, now))}
    if not full or len(full) == len(found):
        return found
    for key, reason in full.items():
        refused.setdefault(f"capacity: {reason}", []).append(key)
    return [each for each in found if each.key not in full]


# --- what depends on the card alone -----------------------------------------------------------------------------------


class _Cards:
    """What cards say to one kind of need. A card is frozen: what it says is found out once."""

    def __init__(self, need: Need) -> None:
        self._need = need
        self.constrained = bool(need.placement or need.data_class)
        self.reasons: dict[int, tuple[Card, str]] = {}
        self.placed: dict[int, str] = {}

    def refusal(self, card: Card) -> str:
        reason = _unfit(self._need, card)
        self.reasons[id(card)] = (card, reason)  # with the card, so that its id stays its own
        self.placed[id(card)] = misplaced(self._need.placement, self._need.data_class, card)
        return reason


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
    if need.output_schema is not None:
        if card.output_schema is None:
            return "schema: it does not say what it gives"
        if problem := unusable(card.output_schema, need.output_schema):
            return f"schema: its output is not of use: {problem}"
    return ""


def unusable(made: dict[str, Any], wanted: dict[str, Any], where: str = "") -> str:
    """Why values that fit ``made`` may not be of use to one who wants ``wanted``; empty if nothing speaks against it.

    Types, required fields and the fields' own schemas are compared; what else the schemas say is left to the
    validation of the output itself.
    """
    made, wanted = _resolved(made, made), _resolved(wanted, wanted)
    at = f"{where}: " if where else ""
    gives, takes = _types(made), _types(wanted)
    if gives and takes and not any(kind in takes or (kind == "integer" and "number" in takes) for kind in gives):
        return f"{at}it is {' or '.join(sorted(gives))}, not {' or '.join(sorted(takes))}"
    fields = cast("dict[str, Any]", made.get("properties", {}))
    for name, schema in cast("dict[str, Any]", wanted.get("properties", {})).items():
        path = f"{where}.{name}".lstrip(".")
        if name not in fields:
            if name in wanted.get("required", ()) and "object" in gives:
                return f"{path} is missing"
        elif problem := unusable(_resolved(fields[name], made), _resolved(schema, wanted), path):
            return problem
    return ""


def _resolved(schema: Any, root: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(schema, dict):
        return {}
    found = cast("dict[str, Any]", schema)
    name = str(found.get("$ref", "")).removeprefix("#/$defs/")
    return cast("dict[str, Any]", root.get("$defs", {}).get(name, {})) if name else found


def _types(schema: dict[str, Any]) -> set[str]:
    """What it may be; empty where the schema leaves it open."""
    kind: Any = schema.get("type")
    if isinstance(kind, str):
        return {kind}
    if isinstance(kind, list):
        return {str(each) for each in cast("list[Any]", kind)}
    several: Any = schema.get("anyOf") or ()
    each = [_types(one) for one in cast("list[dict[str, Any]]", several)]
    return {kind for kinds in each for kind in kinds} if all(each) else set()


# --- what depends on the input ----------------------------------------------------------------------------------------


class _Accepts:
    """Whether cards accept one input; equal schemas are asked once."""

    def __init__(self, given: Any) -> None:
        self._given = given
        self._said: dict[str, str] = {}

    def refusal(self, card: Card) -> str:
        if card.input_schema is None:
            return ""
        kind, check = _check_of(card)
        said = self._said.get(kind)
        if said is None:
            said = self._said[kind] = self._ask(check)
        return said

    def _ask(self, check: Fits | None) -> str:
        from pydantic_core import ValidationError  # lazy: a start does not need it

        if check is None:
            return "schema: that of its input makes no sense"
        try:
            check(self._given)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(map(str, first["loc"]))
            said = first["msg"].lower().removeprefix("input ")
            return f"schema: the input's {field}: {said}" if field else f"schema: the input {said}"
        except ValueError as error:
            return f"schema: the input: {error}"
        return ""


_checks: dict[str, Fits | None] = {}
_check_of_card: dict[int, tuple[Card, str]] = {}


def _check_of(card: Card) -> tuple[str, Fits | None]:
    known = _check_of_card.get(id(card))
    if known is None:
        if len(_check_of_card) > 100_000:
            _check_of_card.clear()
        known = _check_of_card[id(card)] = (card, json.dumps(card.input_schema, sort_keys=True))
    kind = known[1]
    if kind not in _checks:
        try:
            _checks[kind] = Fits(cast("dict[str, Any]", card.input_schema), f"the input of {card.name}")
        except DefinitionError:
            _checks[kind] = None
    return kind, _checks[kind]
