"""Outcomes of turns without what the journal holds already: a message is stored once, in the memo it came from.

``leave_out`` empties places of a turn and writes down in ``Turn.elsewhere`` where their contents are; ``restored``
fills them again. A place is the way to it: names of fields, keys, and positions. An empty key below a text is
the JSON in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from pydantic_core import from_json, to_json

from cadenza.agents.turn import Continuation, Place, Returned, Turn
from cadenza.durable import codec

BYTES_MIN = 120
"""What is smaller as JSON is not worth a reference."""
GIVEN = ""
"""Stands for the arguments of the turn where a memo's key would be."""


def given_to(input: Any, instructions: str, then: Continuation | None) -> dict[str, Any]:
    """The arguments of a turn that its messages repeat."""
    verdicts = then.verdicts if then else {}
    returned = {call_id: each.returned for call_id, each in verdicts.items() if isinstance(each, Returned)}
    return {"input": input if isinstance(input, str) else None, "instructions": instructions, "returned": returned}


def leave_out(turn: Turn, memos: Mapping[str, bytes], given: dict[str, Any]) -> Turn:
    """The same turn without what is in the memos of its step, or was given to it."""
    if not memos or (turn.paused is None and not turn.asked and len(to_json(turn.output)) < BYTES_MIN):
        return turn
    known: dict[str, tuple[str, Place]] = {}
    for key, raw in memos.items():
        _learn(known, key, (), from_json(raw))
    _learn(known, GIVEN, (), given)
    data = cast("dict[str, Any]", from_json(codec.encode(turn, Turn, "a turn")))
    found: list[tuple[Place, str, Place]] = []
    for part in ("output", "asked", "paused"):
        _empty(data, part, (), known, found)
    data["elsewhere"] = found
    return codec.coerce(data, Turn, "a turn")


def restored(raw: bytes, memos: Mapping[str, bytes], given: dict[str, Any]) -> Turn:
    """A turn as it was before ``leave_out``. Raises InputInvalid: it is no turn."""
    if b'"elsewhere"' not in raw:
        return codec.decode(raw, Turn, "the recorded value")
    return codec.coerce(filled(from_json(raw), memos, given), Turn, "the recorded value")


def whole(raw: bytes, memos: Mapping[str, bytes]) -> bytes:
    """The outcome of any step, for people to read: if it is a turn, with what its memos hold."""
    if not (memos and b'"elsewhere"' in raw):
        return raw
    data = from_json(raw)
    return to_json(filled(data, memos)) if isinstance(data, dict) and data.get("elsewhere") else raw  # pyright: ignore[reportUnknownMemberType]


def filled(data: Any, memos: Mapping[str, bytes], given: dict[str, Any] | None = None) -> Any:
    """A turn's data, in which what is elsewhere is put back; without ``given`` the arguments stay left out."""
    sources: dict[str, Any] = {} if given is None else {GIVEN: given}
    for to, key, at in data.pop("elsewhere", ()):
        if key not in sources:
            if key not in memos:
                continue
            sources[key] = from_json(memos[key])
        _at(data, to[:-1])[to[-1]] = _at(sources[key], at)
    return data


def _learn(known: dict[str, tuple[str, Place]], key: str, at: Place, value: Any) -> None:
    text = json.dumps(value, sort_keys=True) if value is not None else ""
    if len(text) < BYTES_MIN:
        return
    known.setdefault(text, (key, at))
    for name, each in _parts(value):
        _learn(known, key, (*at, name), each)
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            _learn(known, key, (*at, ""), json.loads(value))
        except ValueError:
            return


def _empty(
    holder: Any,
    name: str | int,
    above: Place,
    known: dict[str, tuple[str, Place]],
    found: list[tuple[Place, str, Place]],
) -> None:
    value, to = holder[name], (*above, name)
    if value is None or isinstance(value, bool | int | float):
        return
    text = json.dumps(value, sort_keys=True)
    if len(text) < BYTES_MIN:
        return
    if text in known:
        key, at = known[text]
        holder[name] = type(value)()  # what fits the type of the place
        found.append((to, key, at))
        return
    for each, _ in _parts(value):
        _empty(value, each, to, known, found)


def _parts(value: Any) -> list[tuple[str | int, Any]]:
    if isinstance(value, dict):
        return list(cast("dict[str | int, Any]", value).items())
    if isinstance(value, list):
        return list(enumerate(cast("list[Any]", value)))
    return []


def _at(value: Any, way: Any) -> Any:
    for name in way:
        value = json.loads(value) if name == "" and isinstance(value, str) else value[name]
    return value
