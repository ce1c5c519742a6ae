"""A real model in this process, end to end. Set CADENZA_GGUF to a GGUF file of a chat model; any size will do."""

import asyncio
import json
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent as PlainAgent
from pydantic_ai.exceptions import ModelHTTPError, UnexpectedModelBehavior
from pydantic_ai.messages import ModelMessage, ModelRequest, ToolCallPart, UserPromptPart
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition

from cadenza import Agent, Context, Engine, workflow
from cadenza.agents.llamacpp import load
from cadenza.agents.models import resolve
from cadenza.errors import ModelUnavailable

GGUF = os.environ.get("CADENZA_GGUF", "")

with_weights = pytest.mark.skipif(not GGUF, reason="no local model: set CADENZA_GGUF to the path of a GGUF file")


class City(BaseModel):
    name: str
    country: str


@pytest.fixture
def model() -> Model:
    return resolve(f"llamacpp:{GGUF}")


@with_weights
@pytest.mark.slow
def test_a_run_asks_a_real_model_once(tmp_path: Path) -> None:
    agent = Agent("geographer", model=f"llamacpp:{GGUF}", output=City, settings={"temperature": 0, "max_tokens": 200})

    @workflow(name="locate")
    async def locate(ctx: Context, question: str) -> City:
        return await ctx.call(agent, question)

    async def main() -> tuple[City, City]:
        question = "Name the capital of France and its country."
        async with Engine.open(tmp_path / "cadenza.db") as engine:
            first = await (await engine.start(locate, question, id="paris")).result()
        async with Engine.open(tmp_path / "cadenza.db") as engine:
            return first, await (await engine.start(locate, question, id="paris", on_conflict="join")).result()

    first, again = asyncio.run(main())
    assert isinstance(first, City)
    assert first == again


@with_weights
@pytest.mark.slow
def test_a_tool_call_has_the_arguments_of_the_tool(model: Model) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    parameters = ModelRequestParameters(
        function_tools=[ToolDefinition(name="double", description="Twice a number.", parameters_json_schema=schema)]
    )

    async def main() -> Any:
        messages: list[ModelMessage] = [ModelRequest([UserPromptPart("What is twice 21?")])]
        return await model.request(messages, ModelSettings(tool_choice="required", max_tokens=100), parameters)

    (part,) = asyncio.run(main()).parts
    assert isinstance(part, ToolCallPart)
    assert isinstance(part.args_as_dict()["n"], int)


@with_weights
@pytest.mark.slow
def test_text_comes_in_pieces_that_make_the_answer(model: Model) -> None:
    async def main() -> tuple[list[str], str, int]:
        settings = ModelSettings(temperature=0, max_tokens=20)
        async with PlainAgent(model, model_settings=settings).run_stream("Count to five.") as stream:
            pieces = [piece async for piece in stream.stream_text(delta=True, debounce_by=None)]
            return pieces, await stream.get_output(), stream.usage.output_tokens

    pieces, whole, tokens = asyncio.run(main())
    assert len(pieces) > 1
    assert "".join(pieces) == whole
    assert tokens > 0


@with_weights
@pytest.mark.slow
def test_a_typed_answer_that_is_cut_off_says_what_to_raise(model: Model) -> None:
    agent = PlainAgent(model, output_type=City, model_settings=ModelSettings(max_tokens=2))
    with pytest.raises(UnexpectedModelBehavior, match="Raise max_tokens, now 2"):
        asyncio.run(agent.run("Name the capital of France and its country."))


@with_weights
@pytest.mark.slow
def test_a_context_that_is_too_long_is_refused_in_its_own_words(model: Model) -> None:
    with pytest.raises(ModelHTTPError, match="exceeds the available context size"):
        asyncio.run(PlainAgent(model).run("word " * 9_000))


@with_weights
@pytest.mark.slow
def test_nobody_else_on_this_machine_can_use_the_model() -> None:
    address = load(Path(GGUF).resolve()).listening_address
    body = json.dumps({"messages": [{"role": "user", "content": "hello"}]}).encode()
    request = urllib.request.Request(f"{address}/v1/chat/completions", body, {"Content-Type": "application/json"})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=30)
    with caught.value:
        assert caught.value.code == 401


@pytest.mark.parametrize("content", [b"GGUF" + bytes(1_000), b"GGUF"])
def test_a_damaged_file_is_refused_when_it_is_loaded(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(content)
    with pytest.raises(ModelUnavailable, match="cannot load it"):
        asyncio.run(PlainAgent(resolve(f"llamacpp:{tmp_path}/m.gguf")).run("hello"))
