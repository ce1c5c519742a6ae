"""Model providers that say again what they have said: an HTTP server over recorded exchanges, which counts requests.

The exchanges are real (``recorded_models/interactions.jsonl.gz`` of the data folder: ``$CADENZA_DATA``, else
``../shared/data`` beside the project). A request is answered if it is one of those recorded: the same path, and the
same body after ``canonical``. Any other is answered with 404, and says what the nearest recorded one has instead.

The clients are told of it as any user would tell them, by the variables of ``environment``.
"""

from __future__ import annotations

import contextlib
import difflib
import gzip
import json
import os
import re
import threading
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("CADENZA_DATA", ROOT.parent / "shared" / "data"))
RECORDED = DATA / "recorded_models" / "interactions.jsonl.gz"
MADE_ID = re.compile(r"pyd_ai_[0-9a-f]{32}")
"""An id that the client's library has drawn for a tool call, where the provider gives none."""

LEFT_OUT = ("strict", "toolConfig")


@dataclass(frozen=True)
class Exchange:
    """One recorded request and its answer."""

    path: str
    request: Any
    status: int
    body: bytes
    content_type: str


def canonical(request: Any) -> str:
    """A request as text that is equal for equal conversations, whichever version of a client has written it.

    All messages, tools and settings count. Only their writing does not: ids that the client's library draws are
    numbered in the order in which they appear, arguments that are JSON inside of JSON are read, and blocks of
    text are joined. Left out is what the recorded agents had set and ours have not, or the other way round, and no
    model can see: ``strict`` of a tool, and how strictly Google holds its model to the tools.
    """
    text = json.dumps(_plain(request), sort_keys=True, indent=1, ensure_ascii=False)
    ids: dict[str, str] = {}
    return MADE_ID.sub(lambda match: ids.setdefault(match[0], f"made-{len(ids) + 1}"), text)


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if not isinstance(value, dict):
        return value
    plain = {key: _plain(each) for key, each in value.items() if key not in LEFT_OUT}
    if isinstance(plain.get("arguments"), str):
        plain["arguments"] = json.loads(plain["arguments"])
    for key in ("system", "content"):
        if isinstance(blocks := plain.get(key), list) and all(block.keys() == {"type", "text"} for block in blocks):
            plain[key] = "\n".join(block["text"] for block in blocks)
    if isinstance(system := plain.get("system"), str):
        plain["system"] = system.strip()
    return plain


@cache
def _recorded() -> dict[str, list[Exchange]]:
    """The exchanges of each recording, in their order."""
    found: dict[str, list[Exchange]] = {}
    with gzip.open(RECORDED, "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            body = row["raw"] if row["response"] is None else json.dumps(row["response"])
            made = Exchange(path_of(row["uri"]), row["request"], row["status"], body.encode(), row["content_type"][0])
            found.setdefault(row["file"].rpartition("cassettes/")[2], []).append(made)
    return found


def recording(name: str) -> list[Exchange]:
    """The exchanges of one recording, in their order. Skips the test where the data is not there."""
    if not RECORDED.exists():
        pytest.skip(f"no recorded model traffic at {RECORDED}: set CADENZA_DATA to the folder that has it")
    return _recorded()[name]


def path_of(uri: str) -> str:
    """The path of a request, without its query: keys and versions are given there."""
    return urllib.parse.urlsplit(uri).path


def environment(port: int) -> dict[str, str]:
    """What tells the clients of the providers to come here, with keys that are worth nothing."""
    here = f"http://127.0.0.1:{port}"
    return {
        "OPENAI_BASE_URL": f"{here}/v1",
        "ANTHROPIC_BASE_URL": here,
        "GOOGLE_GEMINI_BASE_URL": here,
        "GROQ_BASE_URL": here,
        **{f"{name}_API_KEY": "recorded" for name in ("OPENAI", "ANTHROPIC", "GOOGLE", "GROQ")},
    }


class Providers:
    """The server. Requests are counted when they were read, whatever becomes of their answers.

    Attributes:
        asked: the number of each request that came, in order: its place in the recording, from 1; 0 for a strange one.
        strange: how each request without a match differs from the nearest.
        in_answer: says of a request's number what is to be done after half of its answer, which is then all of it.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self.port = 0
        self.play([])

    def play(self, exchanges: Sequence[Exchange]) -> None:
        """Answer these requests from now on, and forget what was asked before."""
        with self._mutex:
            self.asked: list[int] = []
            self.strange: list[str] = []
            self.in_answer: Callable[[int], Callable[[], None] | None] = lambda _: None
            self._exchanges = list(exchanges)
            self._known = {(each.path, canonical(each.request)): at for at, each in enumerate(exchanges, 1)}
        assert len(self._known) == len(exchanges), "two recorded requests are the same: it is not one conversation"

    @contextlib.contextmanager
    def serving(self) -> Iterator[Providers]:
        """Serve on a free port of this host."""
        server = _Server(self)
        self.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="providers", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def times(self) -> Counter[int]:
        """How often each request came."""
        with self._mutex:
            return Counter(self.asked)

    def answer(self, path: str, body: Any) -> tuple[Exchange, Callable[[], None] | None]:
        """Count a request; its recorded answer, and what is to be done in the middle of it."""
        text = canonical(body)
        number = self._known.get((path, text), 0)
        with self._mutex:
            self.asked.append(number)
        if not number:
            return self._not_found(path, text), None
        return self._exchanges[number - 1], self.in_answer(number)

    def _not_found(self, path: str, text: str) -> Exchange:
        lines = text.splitlines()
        nearest = max(self._known, key=lambda each: difflib.SequenceMatcher(None, each[1].splitlines(), lines).ratio())
        changes = difflib.unified_diff(
            nearest[1].splitlines(), lines, f"recorded {nearest[0]}", f"asked {path}", lineterm="", n=1
        )
        difference = "\n".join(changes)
        with self._mutex:
            self.strange.append(difference)
        body = json.dumps({"error": {"message": f"not recorded; the nearest differs so:\n{difference}"}}).encode()
        return Exchange(path, None, 404, body, "application/json")


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, providers: Providers) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.providers = providers

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is nothing to report."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]  # http.server is typed for any server
    timeout = 30

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer, act = self.server.providers.answer(path_of(self.path), body)
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if act is None:
            self.wfile.write(answer.body)
            return
        self.wfile.write(answer.body[: len(answer.body) // 2])
        act()
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """What came is in ``Providers.asked``."""
