"""The outside world as an HTTP server: it counts the effects that it is asked for, and is the truth about them.

    POST /effects          {"kind", "key", "run", "step", "undo_of"}; answers {"times", "value"}
    GET /effects/<key>     what has happened under this key, for whoever is in doubt; answers the same

An effect counts when its request was read, whatever becomes of the answer. A question is answered after every request
that had connected before it, so that a process that was killed with a request on its way cannot make the answer wrong.
"""

from __future__ import annotations

import itertools
import json
import socket
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

Manner = Literal["answer", "refuse", "drop", "slow", "hold"]
"""How a request is met: done and answered; not done (500); done, and the connection closed; done, and answered late;
done, and answered when ``release`` is called."""

SLOW_S = 0.05
QUESTION_S_MAX = 2.0


@dataclass(frozen=True)
class Effect:
    """Something that has happened. ``at`` numbers the connections in the order in which they were made."""

    at: int
    kind: str
    key: str
    run: str
    step: str
    undo_of: str

    @property
    def value(self) -> str:
        return f"{self.run}/{self.step}"


def always(_: Effect, __: int) -> Manner:
    """The manner of a world without faults."""
    return "answer"


class World:
    """What has happened, as the server saw it.

    Args:
        manner: says how an effect is met, by the effect and how often it has happened before.
    """

    def __init__(self, manner: Callable[[Effect, int], Manner] = always) -> None:
        self.manner = manner
        self.effects: list[Effect] = []
        self.refused = 0
        self.held = threading.Event()
        self._released = threading.Event()
        self._asked: dict[str, int] = {}
        self._open: set[int] = set()
        self._change = threading.Condition()
        self._tickets = itertools.count(1)
        self.port = 0

    @contextmanager
    def serving(self) -> Iterator[World]:
        """Serve on a free port of this host."""
        server = _Server(self)
        self.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="effects", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.release()
            server.shutdown()
            server.server_close()
            thread.join()

    # --- what tests ask -------------------------------------------------------------------------------------------

    def of(self, run: str = "", step: str = "", kind: str = "") -> list[Effect]:
        """The effects of a run, a step, a kind, in the order in which they were asked for."""
        with self._change:
            found = [
                each
                for each in self.effects
                if run in ("", each.run) and step in ("", each.step) and kind in ("", each.kind)
            ]
        return sorted(found, key=lambda each: each.at)

    def release(self) -> None:
        """Answer what was held, and hold nothing more."""
        self.manner = always
        self._released.set()

    # --- what the server does -------------------------------------------------------------------------------------

    def connected(self) -> int:
        with self._change:
            ticket = next(self._tickets)
            self._open.add(ticket)
            return ticket

    def read(self, ticket: int) -> None:
        """This connection's request has been counted, or will never come."""
        with self._change:
            self._open.discard(ticket)
            self._change.notify_all()

    def met(self, effect: Effect) -> Manner:
        """Count an effect. Its manner is decided by how often it was asked for, done or not."""
        with self._change:
            asked = self._asked.get(effect.value, 0)
            self._asked[effect.value] = asked + 1
            manner = self.manner(effect, asked)
            if manner == "refuse":
                self.refused += 1
            else:
                self.effects.append(effect)
            return manner

    def wait_for_release(self) -> None:
        self.held.set()
        self._released.wait()

    def truth(self, ticket: int, key: str) -> dict[str, Any]:
        """What has happened under ``key``, as soon as all requests that came before are read."""
        with self._change:
            self._change.wait_for(lambda: all(other >= ticket for other in self._open), QUESTION_S_MAX)
            found = [each for each in self.effects if each.key == key]
        return {"times": len(found), "value": found[0].value if found else None}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def __init__(self, world: World) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.world = world
        self.tickets: dict[Any, int] = {}

    def process_request(self, request: Any, client_address: Any) -> None:
        self.tickets[client_address] = self.world.connected()
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.world.read(self.tickets.pop(client_address))

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is nothing to report."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]  # http.server is typed for any server
    timeout = 30

    def do_POST(self) -> None:
        world, ticket = self.server.world, self.server.tickets[self.client_address]
        body = self.rfile.read(int(self.headers["Content-Length"]))
        effect = Effect(ticket, **json.loads(body))
        manner = world.met(effect)
        world.read(ticket)
        match manner:
            case "refuse":
                self._answer(500, {"problem": "not today"})
                return
            case "drop":
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            case "slow":
                threading.Event().wait(SLOW_S)
            case "hold":
                world.wait_for_release()
            case _:
                pass
        self._answer(200, {"value": effect.value})

    def do_GET(self) -> None:
        world, ticket = self.server.world, self.server.tickets[self.client_address]
        key = urllib.parse.unquote(self.path.removeprefix("/effects/"))
        self._answer(200, world.truth(ticket, key))

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        raw = json.dumps(body).encode()
        self.wfile.write(b"HTTP/1.0 %d -\r\nContent-Length: %d\r\n\r\n%s" % (status, len(raw), raw))

    def log_message(self, format: str, *args: Any) -> None:
        """Thousands of requests are not worth a line each."""
