"""The licence review with a model as its arbiter: what it proposes is checked, and the report says who decided."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
LIMIT_S = 60


class Model(ThreadingHTTPServer):
    """A server that speaks OpenAI's protocol and always proposes the same; `asked` holds the requests."""

    proposes: str | None = "MIT"
    status = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.asked: list[dict[str, Any]] = []

    @property
    def name(self) -> str:
        return f"openai-compatible:small@http://127.0.0.1:{self.server_port}/v1"


class Answering(BaseHTTPRequestHandler):
    server: Model  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(asked)
        said = json.dumps({"expression": self.server.proposes, "reason": "It looks so."})
        call = {"name": asked["tools"][0]["function"]["name"], "arguments": said}
        message = {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "type": "function", "function": call}],
        }
        answer: dict[str, Any] = {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": "small",
            "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
        }
        body = json.dumps(answer if self.server.status == 200 else {"error": {"message": "no such model"}}).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def model() -> Iterator[Model]:
    with Model() as server:
        threading.Thread(target=server.serve_forever).start()
        yield server
        server.shutdown()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """An environment of one package that says only "BSD" of itself."""
    folder = tmp_path / "environment" / "lib" / "python3.11" / "site-packages" / "vague-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.4\nName: vague\nVersion: 1.0\nLicense: BSD\n")
    return tmp_path


def review(site: Path, model: str) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "examples.licence_review", "--path", str(site / "environment"), "--yes"]
    done = subprocess.run(
        [*command, "--model", model], cwd=site, env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def conclusion(site: Path) -> dict[str, Any]:
    report = json.loads((site / "licence-review" / "report.json").read_text())
    return report["packages"][0]["evidence"]["conclusion"]


def test_a_model_that_is_configured_decides_and_the_report_says_so(site: Path, model: Model) -> None:
    model.proposes = "bsd-3-clause"
    code, output, errors = review(site, model.name)
    assert (code, errors) == (0, "")
    assert f"{model.name} settled 1 of 1 disagreements" in output
    decided = conclusion(site)
    assert (decided["expression"], decided["rule"]) == ("BSD-3-Clause", f"model {model.name}")
    assert model.name in (site / "licence-review" / "report.html").read_text()
    assert len(model.asked) == 1
    assert '"declared":"BSD"' in model.asked[0]["messages"][-1]["content"].replace('": "', '":"')


@pytest.mark.parametrize(
    ("proposes", "why"),
    [
        ("Zlib", "nobody has seen Zlib"),
        ("as you like it", "which is no SPDX expression"),
        ("BSD-2-Clause OR BSD-3-Clause", "a choice that the package does not declare"),
    ],
)
def test_what_the_evidence_does_not_hold_is_put_aside(proposes: str, why: str, site: Path, model: Model) -> None:
    model.proposes = proposes
    assert review(site, model.name)[0] == 0
    decided = conclusion(site)
    assert decided["rule"] == "unresolved"
    assert why in decided["reason"]


def test_the_rules_decide_where_the_model_fails(site: Path, model: Model) -> None:
    model.status = 400
    code, output, _ = review(site, model.name)
    assert code == 0
    assert "settled 0 of 1 disagreements" in output
    assert f"{model.name} could not be asked" in conclusion(site)["reason"]


def test_a_model_that_cannot_be_used_is_refused_before_anything_begins(site: Path) -> None:
    code, _, errors = review(site, "olama:llama3.2")
    assert code == 2
    assert "'ollama'" in errors
    assert not (site / "cadenza.db").exists()
