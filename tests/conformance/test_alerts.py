"""People are told of runs that fail or block: at least once, and not for ever; on both stores."""

import asyncio
import base64
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from cadenza import Context, Engine, EngineOptions, workflow
from cadenza.engine import alerts
from cadenza.engine.options import Alerts
from cadenza.engine.sqlite.rotation import rotate
from cadenza.engine.sqlite.sealing import KeyRing
from cadenza.engine.sqlite.store import SQLiteStore
from cadenza.errors import DefinitionError, UsageError


@workflow
async def ends(ctx: Context, how: str) -> str:
    if how == "fail":
        raise ValueError("no money")
    if how == "block":
        raise DefinitionError("no code")
    return how


@pytest.fixture(params=["memory", "sqlite"])
def location(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str | Path:
    monkeypatch.setattr(alerts, "FIRST_DELAY_S", 0.01)
    monkeypatch.setattr(alerts, "FACTOR", 1)
    return ":memory:" if request.param == "memory" else tmp_path / "s.db"


class Webhook(HTTPServer):
    """Keeps what it was sent; answers 500 while ``refuses`` lasts."""

    def __init__(self, refuses: int = 0) -> None:
        self.refuses, self.got = refuses, list[dict[str, Any]]()
        super().__init__(("127.0.0.1", 0), Receiver)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/alerts"


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        hook = self.server
        assert isinstance(hook, Webhook)
        hook.got.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        hook.refuses -= 1
        self.send_response(500 if hook.refuses >= 0 else 204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with Webhook() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


async def undelivered(engine: Engine) -> None:
    """Wait until no alert is left."""
    while engine.store.alerts(1 << 62, 1):
        await asyncio.sleep(0)


async def end(engine: Engine, *how: str) -> list[str]:
    handles = [await engine.start(ends, each) for each in how]
    for handle in handles:
        await handle.settled()
    return [handle.run_id for handle in handles]


def test_failed_and_blocked_runs_are_told_to_a_webhook(location: str | Path, hook: Webhook) -> None:
    async def main() -> list[str]:
        async with Engine.open(location, EngineOptions(alerts=Alerts(url=hook.url))) as engine:
            ids = await end(engine, "fail", "block", "well")
            await undelivered(engine)
            return ids

    failed, blocked, _ = asyncio.run(main())
    told = {each["run_id"]: (each["status"], each["workflow"], each["attempt"]) for each in hook.got}
    assert told == {failed: ("failed", ends.name, 1), blocked: ("blocked", ends.name, 1)}
    assert all("no money" in each["detail"] or "no code" in each["detail"] for each in hook.got)


def test_a_refused_alert_is_repeated_until_it_is_taken(location: str | Path, hook: Webhook) -> None:
    hook.refuses = 2

    async def main() -> None:
        async with Engine.open(location, EngineOptions(alerts=Alerts(url=hook.url))) as engine:
            await end(engine, "fail")
            await undelivered(engine)

    asyncio.run(main())
    assert [each["attempt"] for each in hook.got] == [1, 2, 3]
    assert len({each["id"] for each in hook.got}) == 1


def test_an_alert_is_given_up_after_some_attempts(location: str | Path, hook: Webhook) -> None:
    hook.refuses = 1_000

    async def main() -> None:
        async with Engine.open(location, EngineOptions(alerts=Alerts(url=hook.url))) as engine:
            await end(engine, "fail")
            await undelivered(engine)

    asyncio.run(main())
    assert len(hook.got) == alerts.ATTEMPTS_MAX


def test_a_command_gets_the_alert_and_is_asked_again_if_it_fails(location: str | Path, tmp_path: Path) -> None:
    script = tmp_path / "tell.py"
    script.write_text(
        "import os, sys, pathlib\n"
        "told = pathlib.Path(__file__).with_name('told.jsonl')\n"
        "first = not told.exists()\n"
        "with told.open('a') as file: file.write(sys.stdin.read() + '\\n')\n"
        "assert os.environ['CADENZA_STATUS'] == 'failed'\n"
        "sys.exit('not yet' if first else 0)\n"
    )

    async def main() -> str:
        command = f"{sys.executable} {script}"
        async with Engine.open(location, EngineOptions(alerts=Alerts(command=command))) as engine:
            (run_id,) = await end(engine, "fail")
            await undelivered(engine)
            return run_id

    run_id = asyncio.run(main())
    told = [json.loads(line) for line in (tmp_path / "told.jsonl").read_text().splitlines()]
    assert [(each["run_id"], each["attempt"]) for each in told] == [(run_id, 1), (run_id, 2)]


def test_an_alert_outlives_its_worker(tmp_path: Path, hook: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts, "FIRST_DELAY_S", 0.01)

    async def fail() -> str:
        nobody = Alerts(command=str(tmp_path / "not-there"))
        async with Engine.open(tmp_path / "s.db", EngineOptions(alerts=nobody)) as engine:
            return (await end(engine, "fail"))[0]

    async def tell() -> None:
        async with Engine.open(tmp_path / "s.db", EngineOptions(alerts=Alerts(url=hook.url))) as engine:
            await undelivered(engine)

    run_id = asyncio.run(fail())
    asyncio.run(tell())
    assert [each["run_id"] for each in hook.got] == [run_id]


@pytest.mark.parametrize("given", [Alerts(url="ftp://x"), Alerts(command="  "), Alerts(command="'")])
def test_alerts_that_can_never_work_are_refused(given: Alerts) -> None:
    with pytest.raises(UsageError):
        alerts.check_alerts(given)


def test_what_an_alert_quotes_is_sealed_while_it_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = (base64.b64encode(each * 32).decode() for each in (b"o", b"n"))
    path = tmp_path / "s.db"
    monkeypatch.setenv("CADENZA_KEYS", f"old:{old}")

    async def fail() -> None:
        async with Engine.open(path, EngineOptions(alerts=Alerts(command=str(tmp_path / "not-there")))) as engine:
            await end(engine, "fail")

    asyncio.run(fail())
    content = b"".join(each.read_bytes() for each in tmp_path.glob("s.db*") if each.is_file())
    assert b"no money" not in content
    monkeypatch.setenv("CADENZA_KEYS", f"new:{new},old:{old}")
    keys = KeyRing.from_environment()
    assert keys is not None
    assert rotate(path, keys).retired == ["old"]
    monkeypatch.setenv("CADENZA_KEYS", f"new:{new}")
    store = SQLiteStore(path)
    (alert,) = store.alerts(1 << 62, 1)
    assert "no money" in alert.detail
    store.close()
