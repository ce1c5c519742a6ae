"""JSON Schemas as types: what fits stays as it is, what does not is named with its field."""

from __future__ import annotations

from typing import Any

import pytest

from cadenza.agents.json_schema import type_of
from cadenza.durable import codec
from cadenza.errors import DefinitionError, InputInvalid

NODE = {
    "type": "object",
    "properties": {"id": {"type": "integer"}, "kids": {"type": "array", "items": {"$ref": "#/$defs/Node"}}},
    "required": ["id"],
    "additionalProperties": False,
}
TREE = {"$ref": "#/$defs/Node", "$defs": {"Node": NODE}}
NAMED = {"allOf": [{"$ref": "#/$defs/Node"}, {"properties": {"name": {"type": "string"}}, "required": ["name"]}]}
OPEN_NODE = {**NODE, "additionalProperties": True}


@pytest.mark.parametrize(
    ("schema", "fits", "does_not"),
    [
        (True, [None, 1, {"a": [1]}], []),
        (False, [], [None, 1]),
        ({}, [1, "x"], []),
        ({"type": "integer"}, [1, -3, 2.0], [1.5, "1", True, None]),
        ({"type": "number", "minimum": 0, "exclusiveMaximum": 2}, [0, 1.5], [-1, 2, "1", True]),
        ({"type": "integer", "multipleOf": 5}, [10], [7]),
        ({"type": "string", "minLength": 1, "maxLength": 2, "pattern": "^a"}, ["a", "ab"], ["", "b", "abc", 1]),
        ({"type": "string", "pattern": "\\p{L}"}, ["anything"], [1]),
        ({"type": "boolean"}, [True], [1, "true", None]),
        ({"type": ["string", "null"]}, ["x", None], [1]),
        ({"enum": ["a", 1, None]}, ["a", 1, None], ["b", "1", 2]),
        ({"const": "a"}, ["a"], ["b", None]),
        ({"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2}, [["a"]], [[], [1], ["a"] * 3]),
        ({"type": "object", "minProperties": 1}, [{"a": 1}], [{}, []]),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, [{}, {"a": 1}], [{"a": "1"}]),
        ({"required": ["a"]}, [{"a": 1, "b": 2}], [{}, {"b": 1}]),
        ({"anyOf": [{"type": "string"}, {"type": "object", "required": ["z"]}]}, ["x", {"z": 1}], [1, {}]),
        ({"oneOf": [{"type": "integer"}, {"type": "null"}]}, [1, None], ["x"]),
        ({"type": "object", "anyOf": [{"required": ["a"]}, {"required": ["b"]}]}, [{"a": 1}, {"b": 1}], [{}, 1]),
        (TREE, [{"id": 1, "kids": [{"id": 2, "kids": []}]}], [{"id": 1, "kids": [{"kids": []}]}, {"id": 1, "x": 2}]),
        ({**NAMED, "$defs": {"Node": OPEN_NODE}}, [{"id": 1, "name": "a"}], [{"id": 1}, {"name": "a"}, {"id": "1"}]),
    ],
)
def test_values_are_checked_as_json_schema_says(schema: Any, fits: list[Any], does_not: list[Any]) -> None:
    made = type_of(schema, "the test")
    for value in fits:
        fitting = codec.coerce(value, made, "the value")
        assert fitting == value
        assert codec.decode(codec.encode(fitting, made, "the value"), made, "the value") == value
    for value in does_not:
        with pytest.raises(InputInvalid):
            codec.coerce(value, made, "the value")


def test_a_problem_is_named_by_its_field() -> None:
    with pytest.raises(InputInvalid) as refused:
        codec.coerce({"id": 1, "kids": [{"id": "two"}]}, type_of(TREE, "the test"), "the value")
    assert refused.value.problems == [("kids.0.id", "Input should be a valid integer", "'two'")]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "file"},
        {"$ref": "#/$defs/Gone"},
        {"$ref": "other.json"},
        {"type": "object", "properties": 3},
        {"type": "string", "minLength": "x"},
    ],
)
def test_a_schema_that_makes_no_sense_is_refused_when_the_type_is_made(schema: Any) -> None:
    with pytest.raises(DefinitionError, match="the test"):
        type_of(schema, "the test")
