"""Many processes on one file: workers that are killed, programs that start, signal, answer and cancel; who takes over
what, and when; and turns at writing that are fair.
"""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest

from cadenza import Engine, EngineOptions
from cadenza.durable import commands, events
from cadenza.durable.define import find_workflow
from cadenza.durable.machine import Machine
from cadenza.engine.sqlite.sql import APPLICATION_ID, migrations
from cadenza.engine.store import Create, Filter, OwnerRow, Renew, RunRow, perform
from tests.acceptance import traffic
from tests.acceptance.traffic import ANSWERS, LEASE_S, noted
from tests.conformance.stores import new_run, sqlite

pytestmark = pytest.mark.sigkill
ROOT = Path(__file__).parents[2]
SECONDS = 60.0 if os.environ.get("CADENZA_DEEP") else 15.0
AT_ONCE_S = 1.5
WAIT_S_MAX = 2.0


# --- processes --------------------------------------------------------------------------------------------------------


class Crew:
    """Starts the parts of traffic.py on one file, and ends them all."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "store.db"
        self._processes: list[subprocess.Popen[str]] = []

    def start(
        self, part: str, *, seed: int = 0, seconds: float = 0.0, lease_s: float = LEASE_S
    ) -> subprocess.Popen[str]:
        """A worker is ready when this returns."""
        number = len(self._processes)
        log = (self.folder / f"{number}-{part}.stderr").open("w")
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.acceptance.traffic", part, str(self.path), str(seed), str(seconds)],
            cwd=ROOT,
            env=os.environ | {"CADENZA_TRAFFIC": str(self.folder), "CADENZA_LEASE_S": str(lease_s)},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        log.close()
        self._processes.append(process)
        if part == "worker":
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", self.said()
        return process

    def said(self) -> str:
        """What all processes wrote to stderr: warnings, errors and tracebacks."""
        return "".join(path.read_text() for path in sorted(self.folder.glob("*.stderr")))

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait(30)
            if process.stdout is not None:
                process.stdout.close()


@pytest.fixture
def crew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Crew]:
    monkeypatch.setattr(traffic, "FOLDER", tmp_path)
    monkeypatch.setattr(traffic, "STOP", tmp_path / "stop")
    made = Crew(tmp_path)
    yield made
    made.close()


async def until(happened: Callable[[], Any], seconds: float = 30.0) -> Any:
    """What ``happened`` returns, once that is true."""
    async with asyncio.timeout(seconds):
        while not (found := happened()):
            await asyncio.sleep(0.01)
    return found


# --- random work ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_random_work_of_four_processes_with_kills_ends_as_it_should(crew: Crew) -> None:
    chance = random.Random(int(os.environ.get("CADENZA_SEED", "1")))
    workers = [crew.start("worker"), crew.start("worker")]
    starter = crew.start("starter", seed=chance.randrange(1_000), seconds=SECONDS)
    talker = crew.start("talker", seed=chance.randrange(1_000))
    kills = 0
    while starter.poll() is None:
        time.sleep(chance.uniform(0.3, 1.5))
        oldest = workers.pop(0)
        oldest.kill()
        oldest.wait(30)
        kills += 1
        workers.append(crew.start("worker"))
    (crew.folder / "stop").touch()
    assert talker.wait(60) == 0, crew.said()
    for worker in workers:
        worker.terminate()
        assert worker.wait(30) == 0, crew.said()
    assert starter.returncode == 0
    assert crew.said() == ""
    assert kills >= SECONDS / 3

    check_file(crew.path)
    check_claims(noted("claims", crew.folder))
    with sqlite(crew.path) as client:
        assert client.store.owners() == [], "a worker that has ended is still listed"
        runs = {row.run_id: row for row in client.store.runs(Filter(limit=1_000_000))}
        journals = {run_id: client.store.events(row.no) for run_id, row in runs.items()}
    check_runs(runs, journals, noted("started", crew.folder))
    check_effects(runs, journals, noted("effects", crew.folder))
    for run_id, journal in journals.items():
        check_replay(runs[run_id].workflow, journal)


def check_file(path: Path) -> None:
    """Sound, ours, and with nothing left in the log once everybody has closed it."""
    assert not path.with_name(path.name + "-wal").exists(), "the last process did not fold in the log"
    assert list(path.with_name(path.name + "-locks").glob("*.lock")) == [], "a lock of an owner was left"
    connection = apsw.Connection(str(path))
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        pragmas = ("journal_mode", "application_id", "user_version")
        values = [connection.pragma(pragma) for pragma in pragmas]
        assert values == ["wal", APPLICATION_ID, len(migrations())]
    finally:
        connection.close()


def check_claims(claims: list[dict[str, Any]]) -> None:
    owners: dict[tuple[str, int], set[str]] = defaultdict(set)
    for claim in claims:
        owners[claim["run"], claim["epoch"]].add(claim["owner"])
    assert {owned: by for owned, by in owners.items() if len(by) > 1} == {}, "two owners in one epoch"
    assert Counter((each["run"], each["epoch"]) for each in claims).most_common(1)[0][1] == 1
    assert len({claim["owner"] for claim in claims}) > 2
    assert max(claim["epoch"] for claim in claims) > 2, "no run ever changed hands"


def check_runs(
    runs: dict[str, RunRow], journals: dict[str, list[events.AnyEvent]], started: list[dict[str, Any]]
) -> None:
    """Everything that was accepted is there, once, and has ended as its workflow does."""
    assert len(started) > SECONDS
    assert {each["run"] for each in started} <= set(runs), "accepted work is lost"
    numbers = defaultdict(set)
    for each in started:
        numbers[each["number"]].add(each["run"])
    assert all(len(run_ids) == 1 for run_ids in numbers.values()), "a business id was given twice"
    expected = {"trip": "failed", "endless": "cancelled"}
    for run_id, row in runs.items():
        kind = row.workflow.rpartition(":")[2]
        assert row.status == expected.get(kind, "completed"), (row, journals[run_id][-3:])
        assert row.owner == ""
        last = journals[run_id][-1]
        assert isinstance(last, events.TERMINALS), "something was written after the end"
        if kind == "talk":
            assert isinstance(last, events.RunCompleted)
            assert last.value in {b'[%d,%d,%d,"%s"]' % (*heard, said.encode()) for heard in ORDERS for said in ANSWERS}


ORDERS = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]


def check_effects(
    runs: dict[str, RunRow], journals: dict[str, list[events.AnyEvent]], effects: list[dict[str, Any]]
) -> None:
    """What happened outside is what the journals say."""
    happened: dict[str, Counter[str]] = defaultdict(Counter)
    for effect in effects:
        happened[effect["kind"]][effect["key"]] += 1
    finished: dict[str, Counter[str]] = defaultdict(Counter)
    for run_id, journal in journals.items():
        generation = 0
        for event in journal:
            if isinstance(event, events.RunStarted):
                generation = event.generation
            if isinstance(event, events.StepCompleted):
                kind = event.name.rpartition(":")[2].removesuffix("_in_a_thread")
                finished[kind][f"{run_id}:{generation}:{event.path}"] += 1
    for kind, keys in finished.items():
        assert max(keys.values()) == 1, "an outcome was journaled twice"
        assert set(keys) <= set(happened[kind]), f"{kind} was journaled and did not happen"
    assert happened["pay"].most_common(1)[0][1] == 1, "an irreversible step happened twice"
    for kind in ("pay", "charge", "enter", "leave"):
        unknown = {key for key in set(happened[kind]) - set(finished[kind]) if not _was_cancelled(runs, key)}
        assert unknown == set(), f"{kind} happened, and its outcome is lost"
    undone = {effect["undo_of"] for effect in effects if effect["kind"] == "unbook"}
    assert set(happened["book"]) == undone, "a booking was not undone"
    spans = sorted(
        [(effect["at"], 1) for effect in _first_and_last(effects, "enter")]
        + [(effect["at"], -1) for effect in _first_and_last(effects, "leave")]
    )
    inside, most = 0, 0
    for _, change in spans:
        inside += change
        most = max(most, inside)
    assert most == 2, f"{most} runs of a workflow that allows 2 were under way"


def _was_cancelled(runs: dict[str, RunRow], key: str) -> bool:
    return runs[key.partition(":")[0]].status == "cancelled"


def _first_and_last(effects: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Of an effect that was repeated after a kill: the first time it began, or the last time it ended."""
    found: dict[str, dict[str, Any]] = {}
    for effect in effects:
        if effect["kind"] == kind and (kind == "leave" or effect["key"] not in found):
            found[effect["key"]] = effect
    return list(found.values())


def check_replay(workflow: str, journal: list[events.AnyEvent]) -> None:
    """Each generation's journal, on a fresh machine, ends as it ended."""
    starts = [index for index, event in enumerate(journal) if isinstance(event, events.RunStarted)]
    for begin, end in zip(starts, [*starts[1:], len(journal)], strict=True):
        machine = Machine(find_workflow(workflow))
        machine.replay(journal[begin:end])
        endings = [command.ending for command in machine.take_commands() if isinstance(command, commands.Finish)]
        assert machine.evict() == []
        assert len(endings) == 1, "the replay did not come to the end"
        _same_end(endings[0], journal[end - 1])


def _same_end(ending: commands.Ending, terminal: events.AnyEvent) -> None:
    match ending, terminal:
        case commands.Completed(value=again), events.RunCompleted(value=value):
            assert again == value
        case commands.Continued(input=again), events.RunContinued(input=value):
            assert again == value
        case commands.Failed(failure=again), events.RunFailed(failure=failure):
            assert str(again) == str(failure)
        case commands.Cancelled(), events.RunCancelled():
            pass
        case _:
            raise AssertionError(f"it ended with {terminal}, and its replay with {ending}")


# --- taking over ------------------------------------------------------------------------------------------------------


@contextmanager
def _aside(crew: Crew) -> Iterator[None]:
    """At the end, let held steps go on, so that engines close at once."""
    try:
        yield
    finally:
        (crew.folder / "release").touch()


def second_worker(crew: Crew, lease_s: float = LEASE_S) -> Engine:
    return Engine.open(crew.path, EngineOptions(adopt_all=True, lease_s=lease_s))


def holders(crew: Crew) -> list[int]:
    """Processes that have begun the step that is held, in order."""
    return [each["pid"] for each in noted("effects", crew.folder) if each["kind"] == "hold"]


@pytest.mark.parametrize("queued", [False, True], ids=["alone", "with runs that wait for a place"])
def test_dead_owner_on_this_host_is_taken_over_at_once(crew: Crew, queued: bool) -> None:
    """Its lease has a minute to go; that its lock is free proves that it is dead."""
    worker = crew.start("worker")

    async def main() -> None:
        async with Engine.open(crew.path, EngineOptions(worker=False)) as starter:
            kind = traffic.held_one_by_one if queued else traffic.held
            first = await starter.start(kind, 1)
            await until(lambda: holders(crew) == [worker.pid])
            if queued:
                await starter.start(kind, 2)
            async with second_worker(crew) as second:
                with _aside(crew):
                    await asyncio.sleep(0.5)
                    worker.kill()
                    worker.wait(30)
                    began = time.monotonic()
                    await until(lambda: os.getpid() in holders(crew), LEASE_S)
                    took_s = time.monotonic() - began
                assert await second.handle(first.run_id).result() == 1
                assert took_s < AT_ONCE_S

    asyncio.run(main())


def test_living_owner_keeps_its_runs(crew: Crew) -> None:
    worker = crew.start("worker")

    async def main() -> None:
        async with Engine.open(crew.path, EngineOptions(worker=False)) as starter:
            handle = await starter.start(traffic.held, 1)
            await until(lambda: holders(crew) == [worker.pid])
            async with second_worker(crew):
                with _aside(crew):
                    await asyncio.sleep(1.5)
                    row = handle.row
                assert (row.epoch, row.status) == (1, "running")
                assert row.owner.startswith(f"{worker.pid}-")
                assert await handle.result() == 1
                assert holders(crew) == [worker.pid]

    asyncio.run(main())


def test_stopped_owner_is_taken_over_when_its_lease_is_over_and_then_writes_nothing(crew: Crew) -> None:
    lease_s = 2.0
    worker = crew.start("worker", lease_s=lease_s)

    async def main() -> None:
        async with Engine.open(crew.path, EngineOptions(worker=False)) as starter:
            handle = await starter.start(traffic.held, 1)
            await until(lambda: holders(crew) == [worker.pid])
            async with second_worker(crew, lease_s) as second:
                with _aside(crew):
                    worker.send_signal(signal.SIGSTOP)
                    began = time.monotonic()
                    await until(lambda: os.getpid() in holders(crew))
                    took_s = time.monotonic() - began
                assert await handle.result() == 1
                worker.send_signal(signal.SIGCONT)
                await asyncio.sleep(0.5)  # it wakes up, its step ends, and it has something to say
                journal = second.journal(handle.run_id)
                outcomes = [event.done_by for event in journal if isinstance(event, events.StepCompleted)]
                assert outcomes == [second.owner]
                assert isinstance(journal[-1], events.RunCompleted)
                assert lease_s * 0.5 < took_s < lease_s + AT_ONCE_S

    asyncio.run(main())
    worker.terminate()
    assert worker.wait(30) == 0, crew.said()


def test_owner_on_another_host_is_taken_over_when_its_lease_is_over(crew: Crew) -> None:
    """Nobody can see from here whether it lives: the lease decides."""

    async def main() -> None:
        async with second_worker(crew) as engine:
            now, lease_s = engine.clock.now(), 1.5
            owner = OwnerRow("elsewhere-1", "another-host", 1, now + round(lease_s * 1_000_000))
            run = new_run("foreign", at=now, workflow=traffic.held.name, owner=owner.owner)
            (crew.folder / "release").touch()
            began = time.monotonic()
            await perform(engine.store, Renew(owner))
            await perform(engine.store, Create(run))
            await until(lambda: engine.find("foreign").epoch > 1)
            took_s = time.monotonic() - began
            assert await engine.handle("foreign").result() == 1
            assert lease_s - 0.05 < took_s < lease_s + AT_ONCE_S
            assert owner.owner not in {each.owner for each in engine.store.owners()}

    asyncio.run(main())


# --- one file, many hands ---------------------------------------------------------------------------------------------

OPEN = """
import sys, time
from pathlib import Path
from tests.conformance.stores import sqlite
print("ready", flush=True)
folder, name = Path(sys.argv[1]), sys.argv[2]
at = float(sys.stdin.readline())
for number in range(int(sys.argv[3])):
    while (left := at + number * 0.08 - time.time()) > 0:
        time.sleep(max(0.0, left - 0.002))
    with sqlite(folder / f"{number}.db") as client:
        client.create(name)
"""


def started(script: str, *arguments: object) -> subprocess.Popen[str]:
    """A process that has said that it is ready."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, cwd=ROOT, text=True, stdin=pipe, stdout=pipe, stderr=pipe)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_new_file_can_be_opened_by_many_at_once(tmp_path: Path) -> None:
    """The first makes the tables; the others wait for it, and do not take a half-made file for somebody else's."""
    files, hands = 20, 4
    processes = [started(OPEN, tmp_path, f"r{number}", files) for number in range(hands)]
    at = time.time() + 0.2
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(f"{at}\n")
        process.stdin.flush()
    assert [process.communicate(timeout=60)[1] for process in processes] == [""] * hands
    for number in range(files):
        with sqlite(tmp_path / f"{number}.db") as client:
            assert sorted(row.run_id for row in client.store.runs(Filter())) == ["r0", "r1", "r2", "r3"]


HOG = """
import itertools, sys
from pathlib import Path
from tests.conformance.stores import sqlite
with sqlite(Path(sys.argv[1])) as client:
    print("ready", flush=True)
    for number in itertools.count():
        client.create(f"{sys.argv[2]}-{number}", input=b"1" * 8_000)
"""


@contextmanager
def hogs(path: Path, count: int) -> Iterator[None]:
    """Processes that commit without a pause."""
    with ExitStack() as stack:
        for number in range(count):
            process = stack.enter_context(started(HOG, path, number))
            stack.callback(process.kill)
        yield


def commits_before_mine(path: Path, seconds: float) -> tuple[list[int], float]:
    """How many commits of others went before each of ours, from when it was asked for; and the longest wait (seconds).

    Each commit makes one run, so that runs' numbers tell.
    """
    passed: list[int] = []
    longest_s = 0.0
    with sqlite(path) as client:
        until_s = time.monotonic() + seconds
        while (began_s := time.monotonic()) < until_s:
            (newest,) = client.store.runs(Filter(limit=1))
            passed.append(client.create(f"mine{len(passed)}").no - newest.no - 1)
            longest_s = max(longest_s, time.monotonic() - began_s)
            time.sleep(0.005)
    return sorted(passed), longest_s


def test_writers_take_turns(tmp_path: Path) -> None:
    """Two processes commit in a tight loop; a third has its turn after each of theirs, not when luck has it.

    A few more may pass while this process is not given the processor; without turns it is ten and more of each hundred.
    """
    path = tmp_path / "store.db"
    with sqlite(path) as client:
        client.create()
    with hogs(path, 2):
        passed, longest_s = commits_before_mine(path, 3.0)
    assert len(passed) > 50
    assert passed[len(passed) * 9 // 10] <= 5
    assert longest_s < WAIT_S_MAX
