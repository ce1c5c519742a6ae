"""Models in this process: a GGUF file, run by llama.cpp (the extra ``llamacpp``).

A file is loaded once per process, at the first request, and stays. Requests run in a thread and leave the event loop
free; a request that is cancelled stops at its next token.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast

from pydantic_ai import RunContext
from pydantic_ai.exceptions import ModelHTTPError, UnexpectedModelBehavior
from pydantic_ai.messages import ModelMessage, ModelResponse, ModelResponseStreamEvent, TextPart, ToolCallPart
from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse
from pydantic_ai.profiles import InlineDefsJsonSchemaTransformer, ModelProfile
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import RequestUsage

from cadenza.agents.constrained import AnswerCut, ChatMessage, Choice, chat_messages, choice_of
from cadenza.errors import ModelUnavailable

THREADS = 2
QUIET = 0
CONTEXT_TOKENS = 8_192
ANSWER_TOKENS_MAX = 1_024
SYSTEM = "llamacpp"
SAMPLING = {  # settings of Pydantic AI, and llama.cpp's names for them
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "seed": "seed",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "stop_sequences": "stop",
}
PROFILE = ModelProfile(
    supports_json_schema_output=True,
    supports_json_object_output=True,
    default_structured_output_mode="native",
    json_schema_transformer=InlineDefsJsonSchemaTransformer,
    supports_image_input=False,
    supports_document_input=False,
    supports_audio_file_input=False,
    supports_video_input=False,
)


@dataclass
class Generated:
    """What a model wrote, and why it stopped."""

    text: str = ""
    stopped_by: Literal["stop", "length"] = "stop"
    usage: RequestUsage = field(default_factory=RequestUsage)


class LlamaCppModel(Model):
    """A GGUF file as a model: text, typed answers, and tools by constrained choice.

    Args:
        path: the file. Settings that count: temperature, top_p, top_k, seed, the penalties, stop_sequences, max_tokens
            (1,024 by default) and tool_choice.
    """

    def __init__(self, path: Path, *, settings: ModelSettings | None = None) -> None:
        super().__init__(settings=settings, profile=PROFILE)
        self._path = path

    @property
    def model_name(self) -> str:
        return self._path.stem

    @property
    def system(self) -> str:
        return SYSTEM

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        settings, asked = self.prepare_request(model_settings, model_request_parameters)
        choice, request = self._compose(messages, settings, asked)
        made = await _in_thread(self._path, request, lambda text: None)
        return ModelResponse(
            parts=_parts(choice, made, request),
            usage=made.usage,
            model_name=self.model_name,
            provider_name=SYSTEM,
            finish_reason=made.stopped_by,
        )

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        settings, asked = self.prepare_request(model_settings, model_request_parameters)
        choice, request = self._compose(messages, settings, asked)
        pieces: asyncio.Queue[str | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def on_text(text: str | None) -> None:
            loop.call_soon_threadsafe(pieces.put_nowait, text)

        task = asyncio.create_task(_in_thread(self._path, request, on_text))
        task.add_done_callback(lambda _: pieces.put_nowait(None))
        try:
            yield LlamaCppStream(asked, self.model_name, choice, request, task, pieces)
        finally:
            task.cancel()
            await asyncio.wait([task])

    def _compose(
        self, messages: list[ModelMessage], settings: ModelSettings | None, asked: ModelRequestParameters
    ) -> tuple[Choice, dict[str, Any]]:
        given = cast("Mapping[str, Any]", settings or {})
        choice = choice_of(asked, given.get("tool_choice"))
        system = [part.content for part in self._get_instruction_parts(messages, asked) or ()]
        if choice.instructions:
            system.append(choice.instructions)
        turns: list[ChatMessage] = chat_messages(messages, system)
        request: dict[str, Any] = {
            "messages": turns,
            "max_tokens": given.get("max_tokens") or ANSWER_TOKENS_MAX,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        request |= {SAMPLING[name]: given[name] for name in SAMPLING if given.get(name) is not None}
        if choice.schema is not None:
            request["json_schema"] = choice.schema
        return choice, request


@dataclass
class LlamaCppStream(StreamedResponse):
    """The pieces of a response as they are written; a constrained one comes whole, at its end."""

    _model_name: str
    _choice: Choice
    _request: dict[str, Any]
    _task: asyncio.Task[Generated]
    _pieces: asyncio.Queue[str | None]
    _timestamp: datetime = field(default_factory=lambda: datetime.now(UTC))

    async def _get_event_iterator(self) -> AsyncIterator[ModelResponseStreamEvent]:
        is_free = self._choice.schema is None
        while (piece := await self._pieces.get()) is not None:
            if is_free:
                for event in self._parts_manager.handle_text_delta(vendor_part_id="text", content=piece):
                    yield event
        made = self._task.result()
        self._usage = made.usage
        self.finish_reason = made.stopped_by
        for part in [] if is_free else _parts(self._choice, made, self._request):
            match part:
                case TextPart():
                    for event in self._parts_manager.handle_text_delta(vendor_part_id="text", content=part.content):
                        yield event
                case ToolCallPart():
                    yield self._parts_manager.handle_part(vendor_part_id="call", part=cast("ToolCallPart", part))
                case _:
                    raise AssertionError(part)

    @property
    def model_name(self) -> str:
        return self._model_name

    @property
    def provider_name(self) -> str:
        return SYSTEM

    @property
    def provider_url(self) -> None:
        return None

    @property
    def timestamp(self) -> datetime:
        return self._timestamp


def _parts(choice: Choice, made: Generated, request: Mapping[str, Any]) -> list[Any]:
    try:
        return choice.read(made.text)
    except AnswerCut as error:
        raise UnexpectedModelBehavior(
            f"the model's JSON was cut off after {made.usage.output_tokens} tokens ({error}). "
            f"Raise max_tokens, now {request['max_tokens']}, in the model's settings.",
            made.text,
        ) from None


# --- llama.cpp --------------------------------------------------------------------------------------------------------

_loaded: dict[Path, Any] = {}
_loading = threading.Lock()


async def _in_thread(path: Path, request: dict[str, Any], on_text: Callable[[str], None]) -> Generated:
    is_stopped = threading.Event()
    try:
        return await asyncio.to_thread(_generate, path, request, on_text, is_stopped)
    finally:
        is_stopped.set()


def _generate(
    path: Path, request: dict[str, Any], on_text: Callable[[str], None], is_stopped: threading.Event
) -> Generated:
    """Answer a request. Raises ModelUnavailable; ModelHTTPError, with llama.cpp's words."""
    made = Generated()
    problems: list[dict[str, Any]] = []

    def on_chunk(chunk: Any) -> bool:
        for each in cast("list[Any]", chunk if isinstance(chunk, list) else [chunk]):
            found = cast("dict[str, Any]", json.loads(each) if isinstance(each, str | bytes) else each)
            if "error" in found:
                problems.append(found["error"])
            else:
                _take(made, found, on_text)
        return is_stopped.is_set()

    server = load(path)
    if not is_stopped.is_set():
        answer: Any = server.handle_chat_completions(request, on_chunk)
        if isinstance(answer, dict) and "error" in answer:
            problems.append(cast("dict[str, Any]", answer)["error"])
    if problems:
        raise ModelHTTPError(int(problems[0].get("code") or 500), path.stem, problems[0])
    return made


def _take(made: Generated, chunk: dict[str, Any], on_text: Callable[[str], None]) -> None:
    choices: list[dict[str, Any]] = chunk.get("choices") or []
    for choice in choices:
        delta: dict[str, Any] = choice.get("delta") or {}
        if text := delta.get("content"):
            made.text += text
            on_text(text)
        if choice.get("finish_reason"):
            made.stopped_by = "length" if choice["finish_reason"] == "length" else "stop"
    if usage := chunk.get("usage"):
        made.usage = RequestUsage(input_tokens=usage["prompt_tokens"], output_tokens=usage["completion_tokens"])


def load(path: Path) -> Any:
    """The running model of a file: loaded by the first call in this process. Raises ModelUnavailable."""
    with _loading:
        if path not in _loaded:
            _loaded[path] = _start(path)
        return _loaded[path]


def _start(path: Path) -> Any:
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before the library starts its threads
    name = f"{SYSTEM}:{path}"
    try:
        import xllamacpp  # pyright: ignore[reportMissingTypeStubs]
    except ImportError as error:
        hint = "Install it: pip install 'cadenza[llamacpp]'"
        raise ModelUnavailable(name, "the package xllamacpp is not installed", hint) from error
    library: Any = xllamacpp
    params = library.CommonParams()
    params.model.path = str(path)
    params.n_ctx = CONTEXT_TOKENS
    params.n_parallel = 1
    params.verbosity = QUIET
    params.ui = False
    params.api_keys = [secrets.token_hex()]  # the library listens on a port of this machine, for anybody without it
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = THREADS
    try:
        return library.Server(params)
    except Exception as error:
        raise ModelUnavailable(name, f"llama.cpp cannot load it ({error})", "Is the file whole?") from error
