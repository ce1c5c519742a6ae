"""Schemas of OpenAPI documents as plain JSON Schema (2020-12)."""

from __future__ import annotations

import re
import urllib.parse
from typing import Any, Literal, cast

from cadenza.agents.json_schema import DEFINITIONS, Schema
from cadenza.errors import DefinitionError

DROPPED = ("discriminator", "xml", "example", "examples", "externalDocs", "nullable", "$schema", "$id", "$comment")
ONE, LISTS, MAPS = ("items", "additionalProperties", "not"), ("allOf", "anyOf", "oneOf"), ("properties",)
COMPONENT = "#/components/schemas/"


def pointed(document: dict[str, Any], reference: str, where: str) -> Any:
    """What a local reference points to. Raises DefinitionError."""
    if not reference.startswith("#/"):
        raise DefinitionError(f"{where}: {reference} is in another document. Bundle them into one first")
    found: Any = document
    for raw in reference[2:].split("/"):
        part = urllib.parse.unquote(raw).replace("~1", "/").replace("~0", "~")
        try:
            found = cast("list[Any]", found)[int(part)] if isinstance(found, list) else found[part]
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise DefinitionError(f"{where}: {reference} is not there") from error
    return found


class Dialect:
    """Makes plain the schemas of one document, for one direction: what is read-only is not sent.

    ``schema`` is called for each part, ``complete`` at the end: it brings what was referred to.
    """

    def __init__(self, document: dict[str, Any], where: str, direction: Literal["in", "out"], is_30: bool) -> None:
        self._document, self._where, self._is_30 = document, where, is_30
        self._absent = "readOnly" if direction == "in" else "writeOnly"
        self._definitions: dict[str, Schema | bool] = {}

    def complete(self, schema: Schema | bool) -> Schema:
        """The schema with all the definitions that it needs."""
        made: Schema = schema if isinstance(schema, dict) else ({} if schema else {"not": {}})
        return {**made, "$defs": self._definitions} if self._definitions else made

    def schema(self, given: Schema | bool) -> Schema | bool:
        """One schema, with references to ``#/$defs``."""
        if isinstance(given, bool):
            return given
        if "$ref" in given:
            reference = {"$ref": DEFINITIONS + self._define(str(given["$ref"]))}
            others = {name: each for name, each in given.items() if name != "$ref"}
            return reference if self._is_30 or not others else {**cast("Schema", self.schema(others)), **reference}
        made: Schema = {}
        for name, each in given.items():
            if name in DROPPED or name.startswith("x-"):
                continue
            if name in ONE and isinstance(each, dict | bool):
                made[name] = self.schema(cast("Schema | bool", each))
            elif name in LISTS:
                made[name] = [self.schema(one) for one in each]
            elif name in MAPS:
                made[name] = {key: self.schema(one) for key, one in each.items()}
            else:
                made[name] = each
        if "required" in made:
            made["required"] = [name for name in made["required"] if not self._is_absent(given, name)]
        return self._as_31(given, made) if self._is_30 else made

    def _is_absent(self, given: Schema, name: str) -> bool:
        field = given.get("properties", {}).get(name)
        return isinstance(field, dict) and bool(cast("Schema", field).get(self._absent))

    def _define(self, reference: str) -> str:
        name = re.sub(r"[^\w.-]+", "_", reference.removeprefix(COMPONENT).removeprefix("#/"))
        if name not in self._definitions:
            self._definitions[name] = True  # it may refer to itself
            self._definitions[name] = self.schema(pointed(self._document, reference, self._where))
        return name

    def _as_31(self, given: Schema, made: Schema) -> Schema:
        """What OpenAPI 3.0 says in its own way."""
        for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
            if isinstance(made.get(exclusive), bool) and made.pop(exclusive) and bound in made:
                made[exclusive] = made.pop(bound)
        if not given.get("nullable"):
            return made
        if "enum" in made and None not in made["enum"]:
            made["enum"] = [*made["enum"], None]
        if isinstance(made.get("type"), str):
            return {**made, "type": [made["type"], "null"]}
        return {"anyOf": [made, {"type": "null"}]} if any(word in made for word in LISTS) else made
