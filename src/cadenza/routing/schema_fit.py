"""Whether whatever one JSON Schema lets through is let through by another: an output that a caller can use.

It answers no unless it can see that the answer is yes, with two exceptions where a strict reading would refuse nearly
every schema of practice: a property that the producer does not name is taken not to be there, and ``format`` is a
remark. Not compared: ``not``, ``if``, ``dependent…``, ``patternProperties``, ``contains``, ``prefixItems``.
"""

from __future__ import annotations

from typing import Any, cast

Schema = dict[str, Any]
KINDS = ("string", "integer", "number", "boolean", "null", "array", "object")
LOW = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
HIGH = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
SAME = ("pattern", "multipleOf")


def misfit(made: Schema | None, wanted: Schema | None) -> str:
    """Why values of ``made`` may not fit ``wanted``; empty if they all do.

    Args:
        made: the schema of an agent's output; None if nothing is known of it, which fits only where all does.
        wanted: the schema that the caller needs; None for any.
    """
    if not wanted:
        return ""
    if made is None:
        return "the card does not say what comes out"
    return _Comparison(made, wanted).misfit(made, wanted, "output")


class _Comparison:
    def __init__(self, made: Schema, wanted: Schema) -> None:
        self._made, self._wanted = made.get("$defs", {}), wanted.get("$defs", {})
        self._assumed: set[tuple[str, str]] = set()

    def misfit(self, made: Schema | bool, wanted: Schema | bool, where: str) -> str:
        if wanted is True or made is False or not isinstance(wanted, dict):
            return "" if wanted is not False or made is False else f"{where} may not be there"
        made = made if isinstance(made, dict) else {}
        if "$ref" in made or "$ref" in wanted:
            return self._referred(made, wanted, where)
        for word in ("anyOf", "oneOf"):
            if word in made:
                rest = {key: each for key, each in made.items() if key != word}
                found = (self.misfit({**rest, **each}, wanted, where) for each in made[word] if isinstance(each, dict))
                return next((each for each in found if each), "")
        if "allOf" in made:
            return self.misfit(_joined(made), wanted, where)
        if "allOf" in wanted:
            return self.misfit(made, _joined(wanted), where)
        for word in ("anyOf", "oneOf"):
            if word in wanted:
                found = [self.misfit(made, each, where) for each in wanted[word]]
                if "" not in found:
                    return found[0] if len(found) == 1 else f"{where} fits none of {len(found)} choices ({found[0]})"
        return self._values(made, wanted, where)

    def _referred(self, made: Schema, wanted: Schema, where: str) -> str:
        names = (str(made.get("$ref", "")), str(wanted.get("$ref", "")))
        if all(names):
            if names in self._assumed:  # it is being compared further up
                return ""
            self._assumed.add(names)
        return self.misfit(_followed(made, self._made), _followed(wanted, self._wanted), where)

    def _values(self, made: Schema, wanted: Schema, where: str) -> str:
        values = _values_of(made)
        allowed = _values_of(wanted)
        if values is not None:
            return self._listed(values, wanted, where)
        if allowed is not None:
            kind = made.get("type")
            if kind == "boolean" and {True, False} <= set(map(_key, allowed)):
                return ""
            return "" if kind == "null" and None in allowed else f"{where} must be one of {_shown(allowed)}"
        return self._typed(made, wanted, where)

    def _listed(self, values: list[Any], wanted: Schema, where: str) -> str:
        from cadenza.agents.json_schema import Fits
        from cadenza.errors import DefinitionError

        try:
            fits = Fits({**wanted, "$defs": self._wanted}, where)
        except DefinitionError as error:
            return str(error)
        for each in values:
            try:
                fits(each)
            except ValueError:
                return f"{where} may be {each!r}"
        return ""

    def _typed(self, made: Schema, wanted: Schema, where: str) -> str:
        kinds, allowed = _kinds(made), _kinds(wanted)
        if "number" in allowed:
            allowed = [*allowed, "integer"]
        others = [each for each in kinds if each not in allowed]
        if others:
            what = "anything" if len(kinds) == len(KINDS) else " or ".join(others)
            return f"{where} may be {what}, {' or '.join(_kinds(wanted))} is needed"
        if problem := _bound(made, wanted, where):
            return problem
        if "object" in kinds and (problem := self._object(made, wanted, where)):
            return problem
        if "array" in kinds and "items" in wanted:
            return self.misfit(made.get("items", True), wanted["items"], f"{where}[]")
        return ""

    def _object(self, made: Schema, wanted: Schema, where: str) -> str:
        named = cast("dict[str, Any]", made.get("properties", {}))
        needed = cast("dict[str, Any]", wanted.get("properties", {}))
        for name in wanted.get("required", ()):
            if name not in made.get("required", ()):
                return f"{where}.{name} may be missing"
        for name, each in needed.items():
            if name in named and (problem := self.misfit(named[name], each, f"{where}.{name}")):
                return problem
        others = wanted.get("additionalProperties", True)
        for name in named:
            if name not in needed and (problem := self.misfit(named[name], others, f"{where}.{name}")):
                return problem
        extra = made.get("additionalProperties")
        return self.misfit(cast("Schema", extra), others, f"{where}.*") if isinstance(extra, dict) else ""


def _followed(schema: Schema, definitions: dict[str, Any]) -> Schema:
    """The schema that it refers to, with what stands beside the reference."""
    seen: set[str] = set()
    while "$ref" in schema:
        name = str(schema["$ref"]).removeprefix("#/$defs/")
        if name in seen or not isinstance(definitions.get(name), dict):
            return {"not": {}} if name in seen else {}
        seen.add(name)
        schema = {**definitions[name], **{key: each for key, each in schema.items() if key != "$ref"}}
    return schema


def _joined(schema: Schema) -> Schema:
    """All parts of an ``allOf`` in one schema, as far as that can be said in one."""
    whole = {key: each for key, each in schema.items() if key != "allOf"}
    for part in cast("list[Any]", schema["allOf"]):
        if not isinstance(part, dict):
            continue
        for key, each in cast("Schema", part).items():
            if key == "properties":
                whole[key] = {**whole.get(key, {}), **each}
            elif key == "required":
                whole[key] = [*whole.get(key, ()), *each]
            else:
                whole.setdefault(key, each)
    return whole


def _values_of(schema: Schema) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    return list(schema["enum"]) if "enum" in schema else None


def _kinds(schema: Schema) -> list[str]:
    kinds = schema.get("type")
    if kinds is None:
        if any(word in schema for word in ("properties", "required", "additionalProperties")):
            return ["object"]
        return ["array"] if "items" in schema else [*KINDS]
    return [str(each) for each in cast("list[Any]", kinds)] if isinstance(kinds, list) else [str(kinds)]


def _bound(made: Schema, wanted: Schema, where: str) -> str:
    for word in LOW:
        if word in wanted and (made.get(word) is None or made[word] < wanted[word]):
            return f"{where}: {word} {wanted[word]} is needed"
    for word in HIGH:
        if word in wanted and (made.get(word) is None or made[word] > wanted[word]):
            return f"{where}: {word} {wanted[word]} is needed"
    for word in SAME:
        if word in wanted and made.get(word) != wanted[word]:
            return f"{where}: {word} {wanted[word]} is needed"
    return ""


def _key(value: Any) -> Any:
    return value if isinstance(value, bool | None) else repr(value)


def _shown(values: list[Any]) -> str:
    shown = ", ".join(map(repr, values[:4]))
    return f"{shown} …" if len(values) > 4 else shown
