"""The web server of this example: a process of its own on localhost, which counts every request in a file.

    python -m examples.research.site --port 8750 --log site.log --idle 0    # for as long as you like

The file outlives the process: the counts go on, and so do bursts of "429 Too Many Requests". `GET /counts` shows them.
"""

import argparse
import json
import threading
from collections import Counter
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from . import web

BURST_EVERY, BURST = 40, range(20, 24)  # of each 40 requests for pages, those that are answered with 429
RETRY_AFTER_S = "1"


class Site(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, port: int, log: Path, *, poison: bool, more_gone: bool) -> None:
        super().__init__(("127.0.0.1", port), Answering)
        self.log, self.poison = log, poison
        self.gone = web.GONE | {web.FILING_GONE: ("filing", HTTPStatus.NOT_FOUND)}
        self.gone |= {slug: ("register", HTTPStatus.GONE) for slug in web.MORE_GONE} if more_gone else {}
        self.mutex = threading.Lock()
        self.counts = Counter(line.strip() for line in log.read_text().splitlines()) if log.exists() else Counter()

    idle = False

    def handle_timeout(self) -> None:
        """Nobody came."""
        self.idle = True

    def count(self, what: str) -> int:
        """Write a request down; returns how many of this kind there were before."""
        kind = what.partition(" ")[0]
        with self.mutex:
            before = sum(count for each, count in self.counts.items() if each.startswith(kind))
            self.counts[what] += 1
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with self.log.open("a") as file:
                file.write(f"{what}\n")
        return before


class Answering(BaseHTTPRequestHandler):
    server: Site  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/companies":
            self.server.count("LIST /companies")
            self.answer([{"slug": each.slug, "name": each.name} for each in web.COMPANIES.values()])
        elif self.path == "/counts":
            self.answer(self.server.counts)
        else:
            self.page(*self.path.strip("/").partition("/")[::2])

    def page(self, source: str, slug: str) -> None:
        number = self.server.count(f"PAGE {self.path}")
        where, status = self.server.gone.get(slug, ("", HTTPStatus.OK))
        if number % BURST_EVERY in BURST:
            self.server.count(f"BURST {self.path}")
            self.answer("too many requests", HTTPStatus.TOO_MANY_REQUESTS, **{"Retry-After": RETRY_AFTER_S})
        elif where == source:
            self.answer(status.phrase, status)
        else:
            try:
                self.answer(web.page(source, slug, poison=self.server.poison), kind="text/html; charset=utf-8")
            except KeyError:
                self.answer("no such page", HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        source, slug = asked["url"].strip("/").split("/")
        self.server.count(f"READ {asked['url']}{' again' if asked['problem'] else ''}")
        self.answer(web.service_answer(slug, source, asked["text"], asked["problem"]), kind="text/plain")

    def answer(self, body: Any, status: HTTPStatus = HTTPStatus.OK, kind: str = "", **headers: str) -> None:
        content = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind or ("text/plain" if isinstance(body, str) else "application/json"))
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser("python -m examples.research.site", description="Serve 50 made-up companies.")
    parser.add_argument("--port", type=int, default=8750)
    parser.add_argument("--log", type=Path, default=Path("site.log"), help="counts of requests")
    parser.add_argument("--no-poison", dest="poison", action="store_false", help="without the poisoned page")
    parser.add_argument("--more-gone", action="store_true", help="seven companies' pages are gone instead of four")
    parser.add_argument("--idle", type=float, default=600, metavar="SECONDS", help="end without a visit for so long")
    options = parser.parse_args()
    site = Site(options.port, options.log, poison=options.poison, more_gone=options.more_gone)
    site.timeout = options.idle or None
    print(f"http://127.0.0.1:{site.server_port}", flush=True)
    while not site.idle:
        site.handle_request()


if __name__ == "__main__":
    main()
