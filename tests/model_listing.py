"""A server that lists its models as Ollama and others do, for whoever asks without a key or with the good one."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Listing(BaseHTTPRequestHandler):
    """``/v1/models`` for those who have the key."""

    def do_GET(self) -> None:
        if self.path != "/v1/models":
            self.send_error(404)
        elif self.headers.get("Authorization") not in (None, "Bearer good"):
            self.send_error(401)
        else:
            body = json.dumps({"data": [{"id": "llama3.2:latest"}, {"id": "qwen3:8b"}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def listing_models() -> Iterator[str]:
    """Its URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Listing) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
