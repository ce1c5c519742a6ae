"""Whether an agent's output can be used by a caller: schemas that fit, and what is said of those that do not."""

from typing import Any

import pytest

from cadenza.routing.schema_fit import misfit

TEXT = {"type": "string"}
NUMBER = {"type": "number"}


def record(required: list[str] | None = None, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
    }


TREE = {
    "$ref": "#/$defs/Node",
    "$defs": {
        "Node": {
            "type": "object",
            "properties": {"name": TEXT, "kids": {"type": "array", "items": {"$ref": "#/$defs/Node"}}},
            "required": ["name", "kids"],
        }
    },
}


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        (TEXT, None),
        (None, {}),
        (TEXT, TEXT),
        ({"type": "integer"}, NUMBER),
        (record(a=TEXT, b=NUMBER), record(a=TEXT)),
        (record(a=TEXT), record(["a"], a=TEXT, b=NUMBER)),
        ({"enum": ["yes", "no"]}, TEXT),
        ({"enum": ["yes"]}, {"enum": ["yes", "no"]}),
        ({"const": 3}, {"type": "integer", "minimum": 2}),
        ({"type": "boolean"}, {"enum": [True, False]}),
        ({"anyOf": [TEXT, {"type": "null"}]}, {"type": ["string", "null"]}),
        (TEXT, {"anyOf": [TEXT, {"type": "null"}]}),
        ({"type": "array", "items": {"type": "integer"}}, {"type": "array", "items": NUMBER}),
        ({"type": "integer", "minimum": 5}, {"type": "integer", "minimum": 1}),
        ({"allOf": [record(a=TEXT), record(b=NUMBER)]}, record(a=TEXT, b=NUMBER)),
        (TREE, TREE),
        ({"type": "string", "format": "date"}, TEXT),
    ],
)
def test_it_fits(made: Any, wanted: Any) -> None:
    assert misfit(made, wanted) == ""


@pytest.mark.parametrize(
    ("made", "wanted", "said"),
    [
        (None, TEXT, "does not say what comes out"),
        ({}, TEXT, "output may be anything, string is needed"),
        (NUMBER, TEXT, "output may be number, string is needed"),
        (NUMBER, {"type": "integer"}, "may be number"),
        (record(a=TEXT), record(a=TEXT, b=NUMBER), "output.b may be missing"),
        (record([], a=TEXT), record(a=TEXT), "output.a may be missing"),
        (record(a=record(b=TEXT)), record(a=record(b=NUMBER)), "output.a.b may be string, number is needed"),
        (record(a=TEXT, b=TEXT), {**record(a=TEXT), "additionalProperties": False}, "output.b may not be there"),
        ({"enum": ["yes", "maybe"]}, {"enum": ["yes", "no"]}, "output may be 'maybe'"),
        (TEXT, {"enum": ["yes", "no"]}, "output must be one of 'yes', 'no'"),
        ({"anyOf": [TEXT, {"type": "null"}]}, TEXT, "output may be null"),
        ({"type": "array", "items": TEXT}, {"type": "array", "items": NUMBER}, "output[] may be string"),
        ({"type": "integer"}, {"type": "integer", "maximum": 5}, "maximum 5 is needed"),
        (NUMBER, {"anyOf": [TEXT, {"type": "null"}]}, "fits none of 2 choices"),
        (TREE, record(name=NUMBER), "output.name may be string"),
    ],
)
def test_it_does_not_fit(made: Any, wanted: Any, said: str) -> None:
    assert said in misfit(made, wanted)
