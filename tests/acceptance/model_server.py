"""A model's API on localhost: speaks OpenAI's chat completions, answers by a script, and counts what it is asked.

The script is a function from the request's messages to an answer: text, tool calls, or a status with an error. It must
depend on the messages alone, so that a conversation that was interrupted goes on as it would have. Tools count what
they do here too (``POST /effects``), and may be held.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """An answer of the model: ``calls`` are (id, tool, arguments; or their text as it is)."""

    text: str = ""
    calls: list[tuple[str, str, dict[str, Any] | str]] = field(default_factory=list)
    status: int = 200
    error: dict[str, Any] | None = None
    raw: str | None = None
    finish: str = ""


UNKNOWN_MODEL = Reply(status=404, error={"message": "The model does not exist.", "code": "model_not_found"})

Script = Callable[[list[dict[str, Any]]], Reply]


def turns(*replies: Reply) -> Script:
    """The n-th reply to a conversation in which the model has spoken n times."""

    def script(messages: list[dict[str, Any]]) -> Reply:
        return replies[sum(each["role"] == "assistant" for each in messages)]

    return script


class ModelServer:
    """``requests`` are the bodies in order of arrival; ``effects`` counts what tools did, by name and key.

    ``unknown_models`` do not exist here.
    """

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[dict[str, Any]] = []
        self.effects: Counter[tuple[str, str]] = Counter()
        self.held: set[str] = set()
        self.unknown_models: set[str] = set()
        self.arrived = threading.Event()
        self._release = threading.Event()
        self._mutex = threading.Lock()
        self.port = 0

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to find it: ``openai-chat:<any name>`` is then a model of this server."""
        return {"OPENAI_BASE_URL": f"http://127.0.0.1:{self.port}/v1", "OPENAI_API_KEY": "none"}

    @property
    def repeated(self) -> int:
        """How many requests were sent before."""
        return len(self.requests) - len({json.dumps(each["messages"], sort_keys=True) for each in self.requests})

    def times(self, name: str) -> int:
        """How often the tool's effect happened; always under one key a call."""
        return sum(count for (each, _), count in self.effects.items() if each == name)

    def release(self) -> None:
        self._release.set()

    @contextmanager
    def serving(self) -> Iterator[ModelServer]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path == "/effects":
                    outer._effect(body)
                    self._send(200, "{}")
                    return
                with outer._mutex:
                    outer.requests.append(body)
                reply = outer.script(body["messages"]) if body["model"] not in outer.unknown_models else UNKNOWN_MODEL
                if body.get("stream"):
                    self._stream(reply)
                else:
                    self._send(*_completion(reply, body["model"]))

            def _send(self, status: int, text: str, kind: str = "application/json") -> None:
                raw = text.encode()
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def _stream(self, reply: Reply) -> None:
                chunks = [{"role": "assistant", "content": word} for word in reply.text.split(" ")]
                lines = [_chunk(delta) for delta in chunks] + [_chunk({}, "stop"), "[DONE]"]
                self._send(200, "".join(f"data: {line}\n\n" for line in lines), "text/event-stream")

            def log_message(self, format: str, *args: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        self.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield self
        finally:
            self._release.set()
            server.shutdown()
            thread.join()
            server.server_close()

    def _effect(self, body: dict[str, str]) -> None:
        with self._mutex:
            self.effects[body["name"], body["key"]] += 1
        if body["name"] in self.held:
            self.arrived.set()
            self._release.wait(60)


def _completion(reply: Reply, model: str) -> tuple[int, str]:
    if reply.error is not None:
        return reply.status, json.dumps({"error": reply.error})
    if reply.raw is not None:
        return reply.status, reply.raw
    calls = [
        {"id": id, "type": "function", "function": {"name": name, "arguments": _text(arguments)}}
        for id, name, arguments in reply.calls
    ]
    message = {"role": "assistant", "content": reply.text or None, **({"tool_calls": calls} if calls else {})}
    choice = {
        "index": 0,
        "message": message,
        "finish_reason": reply.finish or ("tool_calls" if calls else "stop"),
    }
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    body = {"id": "c", "object": "chat.completion", "created": 1, "model": model, "choices": [choice], "usage": usage}
    return 200, json.dumps(body)


def _text(arguments: dict[str, Any] | str) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments)


def _chunk(delta: dict[str, Any], finish: str | None = None) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return json.dumps(
        {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-test", "choices": [choice]}
    )
