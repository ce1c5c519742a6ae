"""Processes that drive a recorded conversation, to be killed: forked from a parent that has had each of them once.

Run as ``python -m tests.acceptance.recorded_worker``; orders as in failpoint_worker.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from cadenza import Answer, Engine, EngineOptions
from cadenza.engine import failpoint
from tests.acceptance import recorded_agents as project
from tests.acceptance.failpoint_worker import LOOK_S, PATIENCE_S, forked, serve
from tests.acceptance.recorded_models import Providers, environment, recording

RUN = "the conversation"


@dataclass
class Task:
    """What a worker does: it drives one run to its end, and answers what a person is asked.

    Attributes:
        folder: of the database, the notes, the result and the errors.
        port: where the providers are.
        failpoint: armed as ``name:nth``.
        alone: see ``recorded_agents.Plan``.
    """

    folder: str
    port: int
    agent: str
    prompt: str
    failpoint: str = ""
    alone: str = ""


async def work(task: Task) -> None:
    options = EngineOptions(adopt_all=True, lease_s=60.0, linger_s=0.0, poll_idle_s=LOOK_S)
    async with Engine.open(Path(task.folder) / "cadenza.db", options) as engine, asyncio.timeout(PATIENCE_S):
        handle = await engine.start(
            project.converse, project.Prompt(task.agent, task.prompt), id=RUN, on_conflict="join"
        )
        while (await handle.settled()).status == "waiting":
            for row, _ in engine.tasks():
                await engine.answer(row.run_id, row.path, Answer(approved=True, by="person"))
            await asyncio.sleep(LOOK_S)
        result = await handle.result()
    (Path(task.folder) / "result.json").write_text(json.dumps(result))


def child(task: Task) -> NoReturn:
    def prepare() -> None:
        os.environ.update(environment(task.port))
        project.plan.notes, project.plan.alone = Path(task.folder) / "notes", task.alone
        failpoint.arm(task.failpoint)

    forked(Path(task.folder) / "errors", prepare, lambda: work(task))


def warm_up() -> None:
    """Import and build, before the first fork, what every worker would for itself: have each conversation once."""
    with warnings.catch_warnings(), Providers().serving() as providers, tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        os.environ.update(environment(providers.port))
        for conversation in project.CONVERSATIONS:
            own = Path(folder) / conversation.agent
            own.mkdir()
            project.plan.notes = own / "notes"
            providers.play(recording(conversation.recording))
            asyncio.run(work(Task(str(own), providers.port, conversation.agent, conversation.prompt)))
    assert threading.active_count() == 1, "a process with threads is not to be forked"


if __name__ == "__main__":
    serve(warm_up, lambda order: child(Task(**order)))
