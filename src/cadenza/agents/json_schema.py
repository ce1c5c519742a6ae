"""Types made of JSON Schemas (2020-12), so that values from outside are checked like any other typed value.

pydantic does the checking; a value that fits stays as it is. Not checked, because a type says nothing of them:
``format``, ``not``, ``if``, ``dependent…``, ``patternProperties``, ``propertyNames``, ``contains``, ``prefixItems``,
``uniqueItems``, a ``pattern`` that Python does not understand, and that a ``oneOf`` fits only one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, cast

from cadenza.errors import DefinitionError

Schema = dict[str, Any]
DEFINITIONS = "#/$defs/"


def type_of(schema: Schema | bool, where: str) -> Any:
    """An annotation whose values are plain data that fit ``schema``.

    Args:
        schema: references are local, to ``#/$defs/…``.
        where: names the schema in an error.

    Raises:
        DefinitionError: the schema makes no sense.
    """
    return Annotated[Any, Fits(schema, where)]


class Fits:
    """The mark on ``Any`` that makes pydantic check a value by a JSON Schema."""

    def __init__(self, schema: Schema | bool, where: str) -> None:
        from pydantic_core import SchemaError, SchemaValidator, core_schema

        self.schema: Schema = schema if isinstance(schema, dict) else ({} if schema else {"not": {}})
        definitions = cast("dict[str, Schema]", self.schema.get("$defs", {}))
        translate = _Translator(where, definitions)
        try:
            top = translate(schema)
            named: list[Any] = []
            for name, each in definitions.items():  # a definition is itself a schema that may be a mere reference
                named.append(core_schema.no_info_before_validator_function(_same, translate(each), ref=name))
            config = core_schema.CoreConfig(regex_engine="python-re", allow_inf_nan=False)
            self._check = SchemaValidator(core_schema.definitions_schema(top, named), config).validate_python
        except (SchemaError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise DefinitionError(f"{where}: the schema makes no sense: {error}") from error

    def __call__(self, value: Any) -> Any:
        from pydantic_core import to_jsonable_python

        plain = to_jsonable_python(value)
        self._check(plain)
        return plain

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(
            self, serialization=core_schema.plain_serializer_function_ser_schema(_same)
        )

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> Schema:
        return self.schema


class _Translator:
    """JSON Schema to pydantic's own."""

    def __init__(self, where: str, definitions: dict[str, Schema]) -> None:
        from pydantic_core import core_schema

        self._where, self._definitions, self._core = where, definitions, core_schema

    def __call__(self, schema: Schema | bool) -> Any:
        core = self._core
        if isinstance(schema, bool):
            return core.any_schema() if schema else core.no_info_plain_validator_function(_refused)
        parts: list[Any] = []
        if "$ref" in schema:
            parts.append(self._reference(str(schema["$ref"])))
        if "const" in schema:
            parts.append(self._one_of([schema["const"]]))
        elif "enum" in schema:
            parts.append(self._one_of(schema["enum"]))
        elif (plain := self._plain(schema)) is not None:
            parts.append(plain)
        parts += [self(each) for each in schema.get("allOf", ())]
        for word in ("anyOf", "oneOf"):
            if word in schema:
                parts.append(self._union([(each, self(each)) for each in schema[word]]))
        if not parts:
            return core.any_schema()
        return parts[0] if len(parts) == 1 else core.chain_schema([self._unchanged(each) for each in parts])

    def _reference(self, reference: str) -> Any:
        name = reference.removeprefix(DEFINITIONS)
        if name == reference or name not in self._definitions:
            raise DefinitionError(f"{self._where}: the schema refers to {reference}, which is not there")
        return self._core.definition_reference_schema(name)

    def _one_of(self, values: list[Any]) -> Any:
        if None not in values:
            return self._core.literal_schema(values)
        others = [each for each in values if each is not None]
        return self._core.nullable_schema(self._core.literal_schema(others)) if others else self._core.none_schema()

    def _union(self, choices: list[tuple[Any, Any]]) -> Any:
        """``null`` among them is told apart, so that an error names the field and not the branch."""
        core = self._core
        others = [made for schema, made in choices if schema != {"type": "null"}]
        if not others:
            return core.none_schema()
        made = others[0] if len(others) == 1 else core.union_schema(others)
        return made if len(others) == len(choices) else core.nullable_schema(made)

    def _plain(self, schema: Schema) -> Any | None:
        kinds = schema.get("type")
        if kinds is None:
            if any(word in schema for word in ("properties", "required", "additionalProperties")):
                kinds = "object"
            elif "items" in schema:
                kinds = "array"
            else:
                return None
        names = cast("list[str]", kinds if isinstance(kinds, list) else [kinds])
        return self._union([({"type": name}, self._typed(name, schema)) for name in names])

    def _typed(self, name: str, schema: Schema) -> Any:
        makers: dict[str, Callable[[Schema], Any]] = {
            "string": self._string,
            "integer": self._integer,
            "number": self._number,
            "boolean": lambda _: self._core.bool_schema(strict=True),
            "null": lambda _: self._core.none_schema(),
            "array": self._array,
            "object": self._object,
        }
        if name not in makers:
            raise DefinitionError(f"{self._where}: the schema has the type {name!r}; known are {', '.join(makers)}")
        return makers[name](schema)

    def _string(self, schema: Schema) -> Any:
        low, high, pattern = schema.get("minLength"), schema.get("maxLength"), schema.get("pattern")
        try:
            re.compile(pattern or "")
        except re.error:  # JavaScript's expressions are not all Python's
            pattern = None
        return self._core.str_schema(strict=True, min_length=low, max_length=high, pattern=pattern)

    def _integer(self, schema: Schema) -> Any:
        return self._core.no_info_before_validator_function(
            _whole, self._core.int_schema(strict=True, **_bounds(schema))
        )

    def _number(self, schema: Schema) -> Any:
        return self._core.float_schema(strict=True, **_bounds(schema))

    def _array(self, schema: Schema) -> Any:
        low, high = schema.get("minItems"), schema.get("maxItems")
        return self._core.list_schema(self(schema.get("items", True)), strict=True, min_length=low, max_length=high)

    def _object(self, schema: Schema) -> Any:
        core = self._core
        properties = cast("dict[str, Schema | bool]", schema.get("properties", {}))
        required = cast("list[str]", schema.get("required", []))
        fields = {
            name: core.typed_dict_field(self(properties.get(name, True)), required=name in required)
            for name in dict.fromkeys([*properties, *required])
        }
        others = cast("Schema | bool", schema.get("additionalProperties", True))
        if others is False and "patternProperties" not in schema:
            made = core.typed_dict_schema(fields, extra_behavior="forbid")
        elif isinstance(others, dict) and "patternProperties" not in schema:
            made = core.typed_dict_schema(fields, extra_behavior="allow", extras_schema=self(others))
        else:
            made = core.typed_dict_schema(fields, extra_behavior="allow")
        low, high = schema.get("minProperties"), schema.get("maxProperties")
        if low is None and high is None:
            return made
        counted = core.dict_schema(min_length=low, max_length=high)
        return core.chain_schema([self._unchanged(made), counted])

    def _unchanged(self, schema: Any) -> Any:
        """The same check, after which the value is what it was: for all parts of a chain to see the same one."""

        def check(value: Any, then: Callable[[Any], Any]) -> Any:
            then(value)
            return value

        return self._core.no_info_wrap_validator_function(check, schema)


def _bounds(schema: Schema) -> dict[str, Any]:
    names = {
        "minimum": "ge",
        "maximum": "le",
        "exclusiveMinimum": "gt",
        "exclusiveMaximum": "lt",
        "multipleOf": "multiple_of",
    }
    return {pydantic: schema[name] for name, pydantic in names.items() if schema.get(name) is not None}


def _whole(value: Any) -> Any:
    """JSON knows one kind of number: 2.0 is an integer."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _refused(value: Any) -> Any:
    raise ValueError("nothing may be here")


def _same(value: Any) -> Any:
    return value
