"""Research with a model that reads what is no table: its claims are checked, and a crash pays for none twice."""

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from examples.research import web
from tests.acceptance.test_research import Desk

LIAR = "alder-instruments"  # of its page the model makes things up


class Model(ThreadingHTTPServer):
    """A server that speaks OpenAI's protocol; `asked` holds the pages that it was given."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.asked: list[str] = []

    @property
    def name(self) -> str:
        return f"openai-compatible:small@http://127.0.0.1:{self.server_port}/v1"


class Answering(BaseHTTPRequestHandler):
    server: Model  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = json.dumps(asked["messages"])
        (slug,) = re.findall(r"/profile/([a-z-]+)", prompt)
        self.server.asked.append(slug)
        body = json.dumps(completion(asked["tools"][0]["function"]["name"], {"claims": claims(slug)})).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def claims(slug: str) -> list[dict[str, str]]:
    facts = web.COMPANIES[slug].facts()
    if slug == LIAR:
        return [{"field": name, "value": "7777", "quote": "7777"} for name in facts]
    quotes = {
        "founded": f"was founded in {facts['founded']}",
        "headquarters": f"headquarters are in {facts['headquarters']}",
        "employees": f"With {facts['employees']} employees",
        "revenue": f"a revenue of {facts['revenue']} million dollars",
    }
    return [{"field": name, "value": facts[name], "quote": quotes[name]} for name in facts]


def completion(tool: str, said: Any) -> dict[str, Any]:
    call = {"name": tool, "arguments": json.dumps(said)}
    message = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": call}]}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "small",
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    }


@pytest.fixture
def model() -> Iterator[Model]:
    with Model() as server:
        threading.Thread(target=server.serve_forever).start()
        yield server
        server.shutdown()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.close()


def test_a_model_reads_what_is_no_table_and_what_it_makes_up_is_not_believed(desk: Desk, model: Model) -> None:
    desk.env["CADENZA_MODEL"] = model.name
    code, _, errors = desk.research("--pick", "top", "--budget", "0.5")
    assert (code, errors) == (10, "")
    assert sorted(model.asked) == sorted(web.PROSE)
    report = desk.report()
    assert "7777" not in (desk.out / "report.md").read_text()
    quotes = {
        source["url"]: source["quote"]
        for company in report["companies"]
        for sources in company["facts"]["employees"].values()
        for source in sources
    }
    by_model = [slug for slug in web.PROSE if quotes[f"/profile/{slug}"].startswith("With ")]
    assert by_model == [slug for slug in web.PROSE if slug != LIAR]
