"""Tools and typed answers for a model that only writes text: the schema it is held to, and reading what it wrote."""

from typing import Any

import pytest
from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.output import OutputObjectDefinition
from pydantic_ai.tools import ToolDefinition

from cadenza.agents.constrained import THEN, AnswerCut, chat_messages, choice_of
from cadenza.errors import UsageError

WORD = {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]}
NESTED = {
    "type": "object",
    "properties": {"page": {"$ref": "#/$defs/Page"}},
    "$defs": {"Page": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Page"}}}},
}
LOOK_UP = ToolDefinition(name="look_up", description="What a word means.", parameters_json_schema=WORD)
TURN = ToolDefinition(name="turn", parameters_json_schema=NESTED)


def asked(*tools: ToolDefinition, **fields: Any) -> ModelRequestParameters:
    return ModelRequestParameters(function_tools=list(tools), tool_visibility={}, **fields)


def test_a_model_without_tools_writes_freely() -> None:
    choice = choice_of(asked())
    assert (choice.schema, choice.instructions) == (None, None)
    assert choice.read("Hello.") == [TextPart("Hello.")]


def test_a_typed_answer_is_held_to_its_own_schema() -> None:
    choice = choice_of(asked(output_mode="native", output_object=OutputObjectDefinition(json_schema=WORD)))
    assert choice.schema == WORD
    assert choice.read('{"word": "tree"}') == [TextPart('{"word": "tree"}')]


def test_with_tools_it_chooses_a_call_or_the_answer() -> None:
    choice = choice_of(asked(LOOK_UP))
    assert choice.schema is not None
    call, answer = choice.schema["anyOf"]
    assert call["properties"] == {"tool": {"type": "string", "const": "look_up"}, "arguments": WORD}
    assert answer["properties"] == {"answer": {"type": "string"}}
    assert "What a word means." in (choice.instructions or "")
    (part,) = choice.read('{"tool": "look_up", "arguments": {"word": "tree"}}')
    assert isinstance(part, ToolCallPart)
    assert (part.tool_name, part.args) == ("look_up", {"word": "tree"})
    assert choice.read('{"answer": "A tree."}') == [TextPart("A tree.")]


def test_a_typed_answer_beside_tools_comes_out_as_its_json() -> None:
    object_ = OutputObjectDefinition(json_schema=WORD)
    choice = choice_of(asked(LOOK_UP, output_mode="native", output_object=object_))
    assert choice.read('{"answer": {"word": "bäum"}}') == [TextPart('{"word": "bäum"}')]


def test_definitions_of_two_tools_do_not_meet() -> None:
    choice = choice_of(asked(TURN, ToolDefinition(name="back", parameters_json_schema=NESTED)))
    assert choice.schema is not None
    assert set(choice.schema["$defs"]) == {"t0_Page", "t1_Page"}
    first, second, _ = choice.schema["anyOf"]
    assert first["properties"]["arguments"]["properties"]["page"] == {"$ref": "#/$defs/t0_Page"}
    assert second["properties"]["arguments"]["properties"]["page"] == {"$ref": "#/$defs/t1_Page"}
    assert choice.schema["$defs"]["t1_Page"]["properties"]["next"] == {"$ref": "#/$defs/t1_Page"}


@pytest.mark.parametrize(
    ("setting", "tools", "may_answer"),
    [
        ("auto", ["look_up", "turn"], True),
        ("none", [], True),
        ("required", ["look_up", "turn"], False),
        (["turn"], ["turn"], False),
    ],
)
def test_the_setting_of_tools_is_heeded(setting: Any, tools: list[str], may_answer: bool) -> None:
    choice = choice_of(asked(LOOK_UP, TURN), setting)
    assert [tool.name for tool in choice.tools] == tools
    assert (choice.answer is not None) is may_answer


@pytest.mark.parametrize("text", ["", '{"answer": "A tr', '{"tool": "look_up", "argum'])
def test_an_answer_that_was_cut_is_not_taken(text: str) -> None:
    with pytest.raises(AnswerCut):
        choice_of(asked(LOOK_UP)).read(text)


def test_a_conversation_is_told_in_turns() -> None:
    messages: list[ModelMessage] = [
        ModelRequest([SystemPromptPart("Be kind."), UserPromptPart("What is"), UserPromptPart("a tree?")]),
        ModelResponse([ThinkingPart("hm"), ToolCallPart("look_up", {"word": "tree"}, "1")]),
        ModelRequest([ToolReturnPart("look_up", {"kind": "plant"}, "1")]),
        ModelResponse([TextPart("A plant.")]),
        ModelRequest([UserPromptPart(["And", "grass?"])]),
    ]
    assert chat_messages(messages, ["Write plainly."]) == [
        {"role": "system", "content": "Write plainly.\n\nBe kind."},
        {"role": "user", "content": "What is\n\na tree?"},
        {"role": "assistant", "content": '{"tool": "look_up", "arguments": {"word": "tree"}}'},
        {"role": "user", "content": f'The tool look_up returned: {{"kind":"plant"}}. {THEN}'},
        {"role": "assistant", "content": "A plant."},
        {"role": "user", "content": "And\ngrass?"},
    ]


def test_a_picture_is_refused() -> None:
    message = ModelRequest([UserPromptPart([BinaryContent(b"", media_type="image/png")])])
    with pytest.raises(UsageError, match="BinaryContent in a message: this model reads text only"):
        chat_messages([message], [])
