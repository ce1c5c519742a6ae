"""LLM agents through the real OpenAI client, against a scripted local server that counts; killed where it hurts."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cadenza.durable import events
from cadenza.engine.sqlite.store import SQLiteStore
from cadenza.engine.store import Filter
from tests.acceptance import llm_workflows as project
from tests.acceptance.model_server import ModelServer

PATIENCE_S = 60
ROOT = Path(__file__).parents[2]


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer(project.SCRIPT).serving() as serving:
        yield serving


def spawn(server: ModelServer, store: Path, failpoint: str = "") -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-m", "tests.acceptance.llm_workflows", str(store)]
    environment = os.environ | server.environment | {"CADENZA_FAILPOINT": failpoint}
    return subprocess.Popen(command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, _ = process.communicate(timeout=PATIENCE_S)
    return process.returncode, out.strip()


def journal(store: Path) -> list[events.AnyEvent]:
    opened = SQLiteStore(store)
    try:
        rows = opened.runs(Filter(limit=2))
        return opened.events(rows[0].no) if rows else []
    finally:
        opened.close()


def saved(store: Path) -> list[str]:
    """The keys of the sub-results that are on disk."""
    return [event.key for event in journal(store) if isinstance(event, events.MemoSaved)]


def in_doubt(store: Path) -> bool:
    """Whether an irreversible sub-result was begun, and nobody knows what became of it."""
    begun = {event.key for event in journal(store) if isinstance(event, events.MemoIntent)}
    return bool(begun - set(saved(store)))


def test_a_turn_goes_through_the_real_client(server: ModelServer, tmp_path: Path) -> None:
    assert ended(spawn(server, tmp_path / "cadenza.db")) == (0, project.RESULT)
    assert len(server.requests) == 3
    assert [server.times(name) for name in ("fast", "slow", "pay")] == [1, 1, 1]
    turn = next(
        event for event in journal(tmp_path / "cadenza.db")
        if isinstance(event, events.StepCompleted) and event.name == "agent:buyer"
    )  # fmt: skip
    assert b'"input_tokens":300,"output_tokens":30' in turn.value


@pytest.mark.sigkill
@pytest.mark.parametrize("nth", range(1, 10))
def test_killed_after_any_commit_no_finished_request_is_sent_and_no_finished_tool_runs_again(
    nth: int, server: ModelServer, tmp_path: Path
) -> None:
    store = tmp_path / "cadenza.db"
    code, out = ended(spawn(server, store, f"after_commit:{nth}"))
    if code == 0:
        assert out == project.RESULT  # it had ended before that many commits
    else:
        assert code == -signal.SIGKILL
        finished, before = saved(store), dict(server.effects)
        asked = len(server.requests)
        if in_doubt(store):
            return  # between the intent to pay and its outcome: a person is asked, which has a test of its own
        assert ended(spawn(server, store)) == (0, project.RESULT)
        assert len(server.requests) - asked == 3 - sum(key.startswith("request/") for key in finished)
        for key in finished:
            for (name, effect), times in before.items():
                if effect.endswith(key):
                    assert server.effects[name, effect] == times
    assert server.repeated == 0
    assert server.times("pay") == 1


@pytest.mark.sigkill
def test_killed_between_two_parallel_tools_the_finished_one_does_not_run_again(
    server: ModelServer, tmp_path: Path
) -> None:
    store = tmp_path / "cadenza.db"
    server.held = {"slow"}
    first = spawn(server, store)
    assert server.arrived.wait(PATIENCE_S)
    deadline_s = time.monotonic() + PATIENCE_S
    while "tool/1/a" not in saved(store):
        assert time.monotonic() < deadline_s
    first.kill()
    assert ended(first)[0] == -signal.SIGKILL
    server.release()
    assert ended(spawn(server, store)) == (0, project.RESULT)
    assert len(server.requests) == 3
    assert server.repeated == 0
    assert [server.times(name) for name in ("fast", "slow", "pay")] == [1, 2, 1]
    assert len({key for name, key in server.effects if name == "slow"}) == 1


@pytest.mark.sigkill
def test_an_irreversible_tool_in_doubt_is_not_called_again_and_a_person_is_asked(
    server: ModelServer, tmp_path: Path
) -> None:
    from cadenza import Answer, Engine, EngineOptions

    store = tmp_path / "cadenza.db"
    server.held = {"pay"}
    first = spawn(server, store)
    assert server.arrived.wait(PATIENCE_S)
    first.kill()
    assert ended(first)[0] == -signal.SIGKILL
    server.release()
    second = spawn(server, store)

    async def decide() -> None:
        async with Engine.open(store, EngineOptions(worker=False)) as engine:
            deadline_s = time.monotonic() + PATIENCE_S
            while not (tasks := engine.tasks()):
                assert time.monotonic() < deadline_s
                await asyncio.sleep(0.02)
            ((row, task),) = tasks
            assert task.title == "Did buyer (tool/2/a) happen?"
            value = {"value": "paid 4"}
            await engine.answer(row.run_id, row.path, Answer(choice="done", value=value, by="ann"))

    asyncio.run(decide())
    assert ended(second) == (0, project.RESULT)
    assert server.times("pay") == 1
    assert server.repeated == 0
