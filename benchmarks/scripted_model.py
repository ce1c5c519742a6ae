"""A model's API on localhost that answers at once, for W8: 20 tool calls, one at a time, then the final text.

`python -m benchmarks.scripted_model` prints its port and serves until standard input ends. Only the standard library.
"""

import asyncio
import json
import os
import socketserver
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CALLS, REPEATS = 20, 15
INSTRUCTIONS, TASK = "Look at every number, then say that you are done.", "Look at 0 to 19."


class Handler(BaseHTTPRequestHandler):
    """Chat completions as OpenAI speaks them."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        said = sum(message["role"] == "assistant" for message in body["messages"])
        message: dict[str, object] = {"role": "assistant", "content": "done" if said == CALLS else None}
        if said < CALLS:
            function = {"name": "look", "arguments": json.dumps({"number": said})}
            message["tool_calls"] = [{"id": f"call_{said}", "type": "function", "function": function}]
        answer = {
            "id": f"answer_{said}",
            "object": "chat.completion",
            "created": 1,
            "model": body["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": "stop" if said == CALLS else "tool_calls"}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
        }
        raw = json.dumps(answer).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(raw)}\r\n\r\n"
        self.wfile.write(head.encode() + raw)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[str]:
    """Its base URL, from a process of its own."""
    server = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.scripted_model"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
    finally:
        server.stdin.close()
        server.wait(5)


async def timed(once: Callable[[], Awaitable[object]]) -> float:
    """Milliseconds a call: the median over the repeats, after three to warm up."""
    spent_s: list[float] = []
    for _ in range(3 + REPEATS):
        began_s = time.perf_counter()
        assert await once() == "done"
        spent_s.append(time.perf_counter() - began_s)
    return statistics.median(spent_s[3:]) / CALLS * 1_000


def measure(run: Callable[[Path], Awaitable[float]], folder: Path) -> None:
    """Serve the model, run, and print."""
    with serving() as url:
        os.environ |= {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": "none"}
        print(json.dumps({"W8": asyncio.run(_awaited(run(folder)))}))


async def _awaited(work: Awaitable[float]) -> float:
    return await work


if __name__ == "__main__":
    socketserver.ThreadingMixIn.daemon_threads = True
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    print(http.server_port, flush=True)
    sys.stdin.read()
