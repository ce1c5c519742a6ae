"""Processes to be killed: a parent that has imported everything forks one worker an order, in a few milliseconds.

Run as ``python -m tests.acceptance.failpoint_worker``; orders come as lines of JSON on stdin, answers leave on stdout:

    {"do": "spawn", ...Task}           -> the worker's pid
    {"do": "wait", "pid": 17}          -> ["exited", code], ["killed", signal] or ["stopped", signal]

When stdin ends, the workers that are left are killed. ``Workers`` is the test's side of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from cadenza import Answer, Context, Engine, EngineOptions, HumanTask, UnknownName
from cadenza.durable import codec
from cadenza.durable.define import steps, workflows
from cadenza.engine import failpoint
from cadenza.engine.store import Filter, RunRow
from cadenza.errors import UsageError
from tests.acceptance import failpoint_workflows as project

BY = "person"
PATIENCE_S = 30
LOOK_S = 0.01


@dataclass
class Task:
    """What a worker does.

    Attributes:
        store: the database.
        port: of the effects server.
        runs: (workflow, name) to start, unless they exist.
        failpoint: armed as ``name:nth[:KILL|STOP]``.
        people: whether the worker also answers questions, sends messages and cancels, as people would.
        seed: of the moments at which runs are cancelled.
        lease_s: of its engine.

    It exits with 0 when its engine drives nothing, and every run has ended or waits for somebody else.
    """

    store: str
    port: int
    runs: list[tuple[str, str]] = field(default_factory=list)
    failpoint: str = ""
    people: bool = True
    seed: str = ""
    lease_s: float = 10.0


# --- the worker -------------------------------------------------------------------------------------------------------


class People:
    """Whoever is outside: answers by what the effects server says, sends each message, cancels each stay."""

    def __init__(self, engine: Engine, task: Task) -> None:
        self._engine = engine
        chance = random.Random(task.seed)
        self._cancel_at = {name: chance.uniform(0, 0.15) for workflow, name in task.runs if workflow == "stay"}
        self._posted: set[str] = set()
        self._began_s = asyncio.get_running_loop().time()

    async def look(self, rows: list[RunRow]) -> None:
        elapsed_s = asyncio.get_running_loop().time() - self._began_s
        for row in rows:
            if row.business_id in self._posted:
                continue
            with contextlib.suppress(UsageError):  # it has ended meanwhile
                if row.workflow.endswith(":patient"):
                    self._posted.add(row.business_id)
                    for turn in range(2):
                        await self._engine.signal(row.run_id, "go", f"go-{turn}", key=f"go-{turn}")
                elif elapsed_s >= self._cancel_at.get(row.business_id, 1e9):
                    self._posted.add(row.business_id)
                    await self._engine.cancel(row.run_id)
        for row, task in self._engine.tasks():
            answer = await self._find_out(task.details) if task.kind == "resolve" else Answer(approved=True, by=BY)
            with contextlib.suppress(UnknownName, UsageError):  # somebody else was faster
                await self._engine.answer(row.run_id, row.path, answer, asked_at=row.asked_at)

    async def _find_out(self, details: dict[str, Any]) -> Answer:
        key = details["key"] + (f"/{details['memo']}" if details["memo"] else "")
        truth = await project.ask("GET", project.truth_path(key))
        return Answer(choice="done" if truth["times"] else "not_done", value=truth["value"], by=BY)


async def work(task: Task) -> None:
    options = EngineOptions(adopt_all=True, lease_s=task.lease_s, linger_s=0.0, poll_idle_s=LOOK_S)
    async with Engine.open(task.store, options) as engine:
        people = People(engine, task)
        try:
            async with asyncio.timeout(PATIENCE_S):
                for workflow, name in task.runs:
                    await engine.start(getattr(project, workflow), name, id=name, on_conflict="join")
                while rows := unfinished(engine, task):
                    if task.people:
                        await people.look(rows)
                    await asyncio.sleep(LOOK_S)
        except TimeoutError:
            logging.exception("%s", state_of(engine))  # this process has no other logger
            raise


def unfinished(engine: Engine, task: Task) -> list[RunRow]:
    """The runs that this worker still has to see to: all that have not ended, or only those that nobody else must."""
    rows = [row for row in engine.runs(Filter(limit=10_000)) if not row.ended]
    assert engine.worker is not None
    if engine.worker.busy or task.people:
        return rows or [runner.row for runner in engine.worker.runners.values()]
    return [row for row in rows if not engine.is_settled(row)]


def state_of(engine: Engine) -> str:
    """Why it does not end: for a test that fails."""
    assert engine.worker is not None
    lines = [f"{engine.owner} has waited for {PATIENCE_S} s; owners: {engine.store.owners()}"]
    lines += [f"open: {row}" for row in engine.runs(Filter(limit=10_000)) if not row.ended]
    lines += [f"task: {row.run_id} {row.path}" for row, _ in engine.tasks()]
    for runner in engine.worker.runners.values():
        waiting = {path: (each.idle, each.in_doubt, each.attempt) for path, each in runner.executions.items()}
        lines.append(f"in memory: {runner.row.run_id} {waiting} {runner.machine.waiting_for()}")
        lines.append("  " + " ".join(type(event).__name__ for event in engine.store.events(runner.row.no)[-12:]))
    return "\n".join(lines)


def forked(errors: Path, prepare: Callable[[], None], work: Callable[[], Coroutine[Any, Any, None]]) -> NoReturn:
    """A whole forked process: it never returns, and whatever is logged as an error goes to ``errors``."""
    signal.alarm(PATIENCE_S + 15)
    handler = logging.FileHandler(errors, delay=True)
    handler.setLevel(logging.ERROR)
    logging.getLogger().addHandler(handler)
    code = 1
    try:
        prepare()
        asyncio.run(work())
        code = 0
    except BaseException:
        logging.exception("the worker failed")  # this process has no other logger
    finally:
        os._exit(code)


def child(task: Task) -> NoReturn:
    def prepare() -> None:
        os.environ["CADENZA_EFFECTS"] = str(task.port)
        failpoint.arm(task.failpoint)

    forked(Path(task.store + ".errors"), prepare, lambda: work(task))


# --- the parent -------------------------------------------------------------------------------------------------------


def warm_up() -> None:
    """Import and build, before the first fork, what every worker would import and build for itself."""
    import cadenza.engine.sqlite.store  # noqa: F401  # imported for the forks

    known = [steps.values(), workflows.values()]
    annotations = [each for functions in known for function in functions for each in function.types.values()]
    for annotation in {Answer, HumanTask, *annotations} - {Context}:
        codec.codec_of(annotation)


def serve(warm_up: Callable[[], None], child: Callable[[dict[str, Any]], None]) -> None:
    """Do the orders of stdin. ``child`` gets a spawn's order in the forked process, and must not return."""
    warm_up()
    gc.collect()
    gc.freeze()
    alive: set[int] = set()
    for line in sys.stdin:
        order = json.loads(line)
        if order.pop("do") == "spawn":
            pid = os.fork()
            if not pid:
                child(order)
            alive.add(pid)
            answer: Any = pid
        else:
            _, status = os.waitpid(order["pid"], os.WUNTRACED)
            if os.WIFSTOPPED(status):
                answer = ["stopped", os.WSTOPSIG(status)]
            else:
                alive.discard(order["pid"])
                killed = os.WIFSIGNALED(status)
                answer = ["killed", os.WTERMSIG(status)] if killed else ["exited", os.WEXITSTATUS(status)]
        print(json.dumps(answer), flush=True)
    for pid in alive:
        os.kill(pid, signal.SIGKILL)


class Workers:
    """The test's side: forks, waits, stops and continues workers."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    @classmethod
    @contextlib.contextmanager
    def open(cls, module: str = "tests.acceptance.failpoint_worker") -> Iterator[Workers]:
        """``module`` calls ``serve`` when it is run."""
        command = [sys.executable, "-m", module]
        root = Path(__file__).parents[2]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) as process:
            yield cls(process)
            assert process.stdin is not None
            process.stdin.close()

    def spawn(self, task: Any) -> int:
        """``task`` is a dataclass: the order's fields."""
        return self._order(do="spawn", **asdict(task))

    def wait(self, pid: int) -> tuple[str, int]:
        """Until the worker has exited, was killed, or is stopped: which, and its code or signal."""
        what, number = self._order(do="wait", pid=pid)
        return what, number

    def _order(self, **order: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        assert line, "the parent of the workers has died"
        return json.loads(line)


if __name__ == "__main__":
    serve(warm_up, lambda order: child(Task(**order)))
