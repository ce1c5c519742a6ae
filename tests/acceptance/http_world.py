"""A real HTTP server on this machine whose answers a test scripts; it keeps every request."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Asked:
    """A request, as it came over the wire."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Answered:
    """An answer; ``drop`` closes the connection instead."""

    status: int = 200
    body: Any = None
    kind: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict[str, str])
    drop: bool = False
    hold: threading.Event | None = None

    @property
    def raw(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        return b"" if self.body is None else json.dumps(self.body).encode()


@dataclass
class World:
    """``answer`` is called with each request; ``url`` is where the server listens."""

    answer: Callable[[Asked], Answered] = lambda _: Answered(body={})
    asked: list[Asked] = field(default_factory=list[Asked])
    url: str = ""

    def queue(self, *answers: Answered) -> None:
        """These answers in turn, and the last one again and again."""
        left = list(answers)
        self.answer = lambda _: left.pop(0) if len(left) > 1 else left[0]


@contextlib.contextmanager
def serving() -> Iterator[World]:
    """A server for as long as the block runs."""
    world = World()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(self.command, self.path, headers, body)
            world.asked.append(asked)
            answered = world.answer(asked)
            if answered.hold is not None:
                answered.hold.wait(30)
            if answered.drop:
                self.close_connection = True
                return
            with contextlib.suppress(OSError):  # whoever asked may be gone
                self.send_response(answered.status)
                for name, value in {"Content-Type": answered.kind, **answered.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answered.raw)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answered.raw)

        do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = handle_any  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    world.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield world
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
