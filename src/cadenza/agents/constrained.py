"""Tools and typed answers for a model that can only write text: it is held to a JSON schema of what it may say.

The schema is a choice: one of the tools with its arguments, or the final answer. So a small model cannot call a tool
that does not exist, cannot forget an argument, and cannot wrap its answer in prose.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from cadenza.errors import UsageError

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelMessage, ModelResponsePart
    from pydantic_ai.models import ModelRequestParameters
    from pydantic_ai.tools import ToolDefinition

TOOL, ARGUMENTS, ANSWER = "tool", "arguments", "answer"
THEN = 'If you know enough now, reply {"answer": …}.'
Schema = dict[str, Any]
ChatMessage = dict[str, str]


class AnswerCut(ValueError):
    """The model's text ends before its JSON does."""


@dataclass(frozen=True)
class Choice:
    """What a model may say next.

    Attributes:
        tools: the tools that it may call.
        answer: JSON Schema of the final answer; None: it must call a tool.
        typed: whether the answer is JSON (of that schema) rather than text.
    """

    tools: tuple[ToolDefinition, ...]
    answer: Schema | None
    typed: bool

    @property
    def schema(self) -> Schema | None:
        """The schema to hold the model to; None where it writes freely."""
        if not self.tools:
            return self.answer if self.typed else None
        defs: Schema = {}
        options: list[Schema] = []
        for number, tool in enumerate(self.tools):
            arguments = _hoist(tool.parameters_json_schema, f"t{number}_", defs)
            options.append(_object({TOOL: {"type": "string", "const": tool.name}, ARGUMENTS: arguments}))
        if self.answer is not None:
            options.append(_object({ANSWER: _hoist(self.answer, "answer_", defs)}))
        whole: Schema = options[0] if len(options) == 1 else {"anyOf": options}
        return {**whole, "$defs": defs} if defs else whole

    @property
    def instructions(self) -> str | None:
        """How to choose, in words, for the system prompt; None where there are no tools."""
        if not self.tools:
            return None
        lines = ["You can use these tools:"]
        for tool in self.tools:
            arguments = json.dumps(tool.parameters_json_schema, ensure_ascii=False)
            lines.append(f"- {tool.name}: {tool.description or tool.name} Arguments: {arguments}")
        lines.append(
            f'Reply with JSON only. To use a tool, reply {{"{TOOL}": "<name>", "{ARGUMENTS}": {{…}}}}; its result will '
            "follow. Never make up what a tool can tell you: use the tool first."
        )
        if self.answer is not None:
            shape = json.dumps(self.answer, ensure_ascii=False) if self.typed else '"<text>"'
            lines.append(f'Only when no tool is needed any more, reply {{"{ANSWER}": {shape}}}')
        return "\n".join(lines)

    def read(self, text: str) -> list[ModelResponsePart]:
        """The parts of a response that ``text`` stands for. Raises AnswerCut: it is not whole."""
        from pydantic_ai.messages import TextPart, ToolCallPart

        if self.schema is None:
            return [TextPart(text)]
        try:
            said = json.loads(text)
        except json.JSONDecodeError as error:
            raise AnswerCut(str(error)) from None
        if not self.tools:
            return [TextPart(text)]
        if TOOL in said:
            return [ToolCallPart(tool_name=said[TOOL], args=said[ARGUMENTS])]
        answer = said[ANSWER]
        return [TextPart(answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False))]


def choice_of(asked: ModelRequestParameters, tool_choice: Any = None) -> Choice:
    """What the model may say to a request.

    Args:
        asked: prepared (``Model.prepare_request``).
        tool_choice: the setting of this name: ``none``, ``required``, or names of the tools that may be called.
    """
    functions = [] if tool_choice == "none" else list(asked.declared_function_tools)
    must_call = tool_choice == "required"
    if isinstance(tool_choice, list):
        names = cast("list[str]", tool_choice)
        functions, must_call = [tool for tool in functions if tool.name in names], True
    tools = (*functions, *(() if must_call and functions else asked.output_tools))
    if must_call and tools:
        return Choice(tools, None, typed=False)
    if asked.output_object is not None:
        return Choice(tools, asked.output_object.json_schema, typed=True)
    return Choice(tools, {"type": "string"} if asked.allow_text_output else None, typed=False)


def chat_messages(messages: Sequence[ModelMessage], system: Iterable[str]) -> list[ChatMessage]:
    """A conversation as text by turns: system, user, assistant. Neighbours of one role are joined.

    Calls of tools are shown as the JSON that the model wrote, their results as the user's next words: the templates of
    small models know no other roles.

    Raises:
        UsageError: a message holds an image or another file.
    """
    from pydantic_ai.messages import ModelRequest, SystemPromptPart, TextPart, ToolCallPart, ToolReturnPart

    turns: list[ChatMessage] = []
    for message in messages:
        if isinstance(message, ModelRequest):
            for part in message.parts:
                match part:
                    case SystemPromptPart():
                        _add(turns, "system", part.content)
                    case ToolReturnPart():
                        returned = f"The tool {part.tool_name} returned: {part.model_response_str()}"
                        _add(turns, "user", f"{returned}. {THEN}")
                    case _:
                        _add(turns, "user", _text_of(part))
        else:
            for said in message.parts:
                if isinstance(said, TextPart):
                    _add(turns, "assistant", said.content)
                elif isinstance(said, ToolCallPart):
                    call = {TOOL: said.tool_name, ARGUMENTS: said.args_as_dict()}
                    _add(turns, "assistant", json.dumps(call, ensure_ascii=False))
    start = [*system, *(turn["content"] for turn in turns if turn["role"] == "system")]
    rest = [turn for turn in turns if turn["role"] != "system"]
    return [{"role": "system", "content": "\n\n".join(start)}, *rest] if start else rest


def _text_of(part: Any) -> str:
    from pydantic_ai.messages import CachePoint, TextContent

    content = part.content
    if isinstance(content, str):
        return content
    texts: list[str] = []
    for item in content:
        if isinstance(item, str | TextContent):
            texts.append(item if isinstance(item, str) else item.content)
        elif not isinstance(item, CachePoint):
            raise UsageError(
                f"a {type(item).__name__} in a message: this model reads text only. Give it text, or ask another"
            )
    return "\n".join(texts)


def _add(turns: list[ChatMessage], role: str, content: str) -> None:
    if turns and turns[-1]["role"] == role:
        turns[-1] = {"role": role, "content": f"{turns[-1]['content']}\n\n{content}"}
    else:
        turns.append({"role": role, "content": content})


def _object(properties: Mapping[str, Schema]) -> Schema:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def _hoist(schema: Schema, prefix: str, defs: Schema) -> Schema:
    """``schema`` without its ``$defs``, which move to ``defs`` under names of their own."""
    own = cast("Schema", schema.get("$defs", {}))
    for name, each in own.items():
        defs[prefix + name] = _renamed(each, prefix)
    return cast("Schema", _renamed({key: value for key, value in schema.items() if key != "$defs"}, prefix))


def _renamed(value: Any, prefix: str) -> Any:
    if isinstance(value, dict):
        found = cast("Schema", value)
        return {
            key: f"#/$defs/{prefix}{each.removeprefix('#/$defs/')}"
            if key == "$ref" and isinstance(each, str)
            else _renamed(each, prefix)
            for key, each in found.items()
        }
    return [_renamed(each, prefix) for each in cast("list[Any]", value)] if isinstance(value, list) else value
