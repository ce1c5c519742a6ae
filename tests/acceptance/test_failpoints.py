"""Real processes, killed at each named place in the engine, or stopped past their lease; the outside world is judge.

An HTTP server counts the effects that runs ask for (effects_server.py); what must hold in the end: effects_verdict.py.
Where an irreversible effect is in doubt, a person or the hook is asked, and says what the server says.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cadenza import Engine, EngineOptions
from cadenza.durable import events
from cadenza.engine.failpoint import NAMES
from cadenza.engine.sqlite.store import SQLiteStore
from cadenza.engine.store import Filter, RunRow
from tests.acceptance import failpoint_workflows as project
from tests.acceptance.effects_server import Effect, Manner, World
from tests.acceptance.effects_verdict import Verdict, errors_of
from tests.acceptance.failpoint_worker import PATIENCE_S, Task, Workers

KILLS = 20
NTH = (1, 2, 2, 3, 4, 5, 6, 8, 11)
RARE = {
    "after_memo_intent": (1, 1, 2),
    "after_memo_effect": (1, 2, 4),
    "in_claim": (1, 2, 3),
    "in_compensation": (1, 2, 3, 5),
}
FAMILY = ("order", "trip", "stay", "patient", "gamble")
ENDED, KILLED, STOPPED = ("exited", 0), ("killed", signal.SIGKILL), ("stopped", signal.SIGSTOP)
LEASE_S = 1.0
LONG_LEASE_S = 60.0
"""Longer than a worker may live: whatever is taken over is taken over because its owner is proved dead."""
SEED = os.environ.get("CADENZA_SEED", "")
"""Another seed, other moments of death."""
SOURCES = Path(__file__).parents[2] / "src" / "cadenza"

pytestmark = pytest.mark.sigkill


def faulty(effect: Effect, asked: int) -> Manner:
    """A world that refuses, drops and delays some first requests; which ones follows from their names."""
    if asked:
        return "answer"
    if effect.step == "risk":
        return "refuse"
    draw = random.Random(effect.value).random()
    return "refuse" if draw < 0.06 else "drop" if draw < 0.12 else "slow" if draw < 0.15 else "answer"


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    with Workers.open() as opened:
        yield opened


# --- killed -----------------------------------------------------------------------------------------------------------


def test_every_failpoint_has_its_place_in_the_engine() -> None:
    found = Counter(
        name
        for path in SOURCES.rglob("*.py")
        for name in re.findall(r'\bfailpoint\("(\w+)"\)', path.read_text(encoding="utf-8"))
    )
    assert set(found) == set(NAMES)
    assert len(NAMES) * KILLS >= 200


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_lost_or_done_twice_by_processes_that_are_killed(
    name: str, workers: Workers, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    chance = random.Random(name + SEED)
    store = tmp_path / "cadenza.db"
    runs: list[tuple[str, str]] = []
    kills = spawned = 0
    with World(faulty).serving() as world:
        while kills < KILLS:
            batch = [(workflow, f"{workflow}-{name}-{len(runs) + index}") for index, workflow in enumerate(FAMILY * 2)]
            runs += batch
            alive = True
            while alive:
                pids: list[int] = []
                for _ in range(chance.choice((1, 2))):  # alone, or two that compete and take over from one another
                    nth = chance.choice(RARE.get(name, NTH))
                    armed = f"{name}:{nth}" if kills + len(pids) < KILLS else ""
                    spawned += 1
                    task = Task(str(store), world.port, batch, armed, seed=f"{name}:{spawned}", lease_s=LONG_LEASE_S)
                    pids.append(workers.spawn(task))
                ends = [workers.wait(pid) for pid in pids]
                assert set(ends) <= {ENDED, KILLED}, errors_of(store)
                kills += ends.count(KILLED)
                alive = ENDED not in ends
        verdict = Verdict(store, world)
        verdict.check(runs)
        effects = world.of()
        row = {
            "failpoint": name,
            "kills": kills,
            "processes": spawned,
            "runs": len(verdict.all),
            "effects": len({effect.value for effect in effects}),
            "repeated": len(effects) - len({effect.value for effect in effects}),
            "refused": world.refused,
            "doubts": verdict.doubts,
        }
        record_property("table: failpoints, each hit by real SIGKILLs", row)


# --- stopped, and back ------------------------------------------------------------------------------------------------


class Absence:
    """One run, and a first worker that is stopped somewhere and comes back after its lease."""

    def __init__(self, workers: Workers, folder: Path, world: World, workflow: str) -> None:
        self.workers, self.world = workers, world
        self.run = (workflow, "the run")
        self.lease_s = LEASE_S
        self._folder = folder
        self._stores = 0
        self.first = 0

    @property
    def store(self) -> Path:
        return self._folder / f"cadenza-{self._stores}.db"

    def stopped_at(self, failpoint: str, *, people: bool = True, writing: bool = False) -> None:
        """The first worker sets out, and is stopped at ``failpoint``: inside of a transaction, or not, as wanted."""
        while True:
            self._stores += 1
            self.first = self.spawn(f"{failpoint}:1:STOP", people=people)
            assert self.workers.wait(self.first) == STOPPED
            if self._is_writing() == writing:
                return
            os.kill(self.first, signal.SIGKILL)
            assert self.workers.wait(self.first) == KILLED
            self.world.effects.clear()

    def stopped_when_held(self) -> None:
        """The first worker sets out, and is stopped while the world keeps it waiting for an answer."""
        self.first = self.spawn()
        assert self.world.held.wait(PATIENCE_S)
        while True:
            os.kill(self.first, signal.SIGSTOP)
            assert self.workers.wait(self.first) == STOPPED
            if not self._is_writing():
                return
            os.kill(self.first, signal.SIGCONT)
            time.sleep(0.01)

    def _is_writing(self) -> bool:
        """Whether a process holds the lock that writers take."""
        with open(self.store.with_name(self.store.name + "-locks") / "write", "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False

    def replaced(self, *, people: bool = True) -> None:
        """Another worker takes over when the lease has run out, and does what is to be done."""
        assert self.workers.wait(self.spawn(people=people)) == ENDED, errors_of(self.store)

    def back(self) -> None:
        """The first worker goes on; it must write nothing, and give up its runs."""
        before = self.journals()
        self.go_on()
        assert self.journals() == before, "a worker wrote to the journal of a run that was not its own any more"

    def go_on(self) -> None:
        os.kill(self.first, signal.SIGCONT)
        assert self.workers.wait(self.first) == ENDED, errors_of(self.store)

    async def start(self, workflow: str, name: str) -> None:
        async with Engine.open(self.store, EngineOptions(worker=False)) as engine:
            await engine.start(getattr(project, workflow), name, id=name)

    def journals(self) -> list[tuple[RunRow, list[events.AnyEvent]]]:
        store = SQLiteStore(self.store)
        try:
            return [(row, store.events(row.no)) for row in store.runs(Filter(limit=100))]
        finally:
            store.close()

    def times(self, step: str) -> int:
        """How often an effect has happened; always under one key."""
        effects = self.world.of("the run", step)
        assert len({effect.key for effect in effects}) <= 1, effects
        return len(effects)

    @property
    def status(self) -> str:
        ((row, _),) = self.journals()
        return row.status

    def spawn(self, failpoint: str = "", *, people: bool = True) -> int:
        task = Task(str(self.store), self.world.port, [self.run], failpoint, people, lease_s=self.lease_s)
        return self.workers.spawn(task)


@pytest.fixture
def absence(workers: Workers, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Absence]:
    with World().serving() as world:
        yield Absence(workers, tmp_path, world, request.param)


@pytest.mark.parametrize(
    ("absence", "where", "step", "times"),
    [
        ("only_pay", "after_intent", "pay", 1),
        ("only_pay", "after_effect", "pay", 1),
        ("only_ship", "after_intent", "ship 0", 1),
        ("only_ship", "after_effect", "ship 0", 1),
        ("only_ship", "before_delivery", "ship 0", 1),
        ("only_reserve", "before_check", "reserve a", 1),
        ("only_reserve", "after_effect", "reserve a", 2),
        ("only_reserve", "in_eviction", "reserve a", 1),
        ("only_mail", "after_memo_intent", "mail", 1),
        ("only_mail", "after_memo_effect", "mail", 1),
    ],
    indirect=["absence"],
)
def test_a_worker_that_comes_back_after_its_lease_does_nothing_more(
    absence: Absence, where: str, step: str, times: int
) -> None:
    absence.stopped_at(where)
    absence.replaced()
    assert absence.status == "completed"
    absence.back()
    assert absence.times(step) == times


@pytest.mark.parametrize(
    ("absence", "where", "step", "before"),
    [
        ("only_pay", "after_intent", "pay", 0),
        ("only_reserve", "before_check", "reserve a", 0),
        ("only_reserve", "after_effect", "reserve a", 1),
    ],
    indirect=["absence"],
)
def test_a_worker_that_comes_back_does_nothing_more_while_the_new_owner_is_at_work(
    absence: Absence, where: str, step: str, before: int
) -> None:
    """The new owner has written nothing yet: only the epoch tells the old one that the run is not its own."""
    world = absence.world
    absence.stopped_at(where)
    assert absence.times(step) == before
    world.manner = lambda effect, asked: "hold"
    other = absence.spawn()
    assert world.held.wait(PATIENCE_S)
    journals = absence.journals()
    os.kill(absence.first, signal.SIGCONT)
    time.sleep(LEASE_S / 2)
    assert absence.journals() == journals
    assert absence.times(step) == before + 1
    world.release()
    assert absence.workers.wait(other) == absence.workers.wait(absence.first) == ENDED, errors_of(absence.store)
    assert (absence.status, absence.times(step)) == ("completed", before + 1)


@pytest.mark.parametrize("absence", ["only_assistant"], indirect=True)
def test_a_worker_stopped_in_the_middle_of_a_step_does_not_go_on_with_it(absence: Absence) -> None:
    world = absence.world
    world.manner = lambda effect, asked: "hold" if effect.step == "model 1" and not asked else "answer"
    absence.stopped_when_held()
    absence.replaced()
    assert absence.status == "completed"
    world.release()
    absence.back()
    assert [absence.times(step) for step in ("model 0", "model 1", "mail", "model 2", "model 3")] == [1, 2, 1, 1, 1]


@pytest.mark.parametrize("absence", ["wait_then_pay"], indirect=True)
def test_a_parked_run_does_not_miss_a_worker_that_is_stopped(absence: Absence) -> None:
    absence.lease_s = LONG_LEASE_S  # nobody owns a parked run: no lease is waited for
    absence.stopped_at("in_eviction", people=False)  # the run is parked on disk, and half way out of memory
    assert absence.status == "waiting"
    absence.replaced()
    absence.back()
    assert (absence.status, absence.times("pay")) == ("completed", 1)


@pytest.mark.parametrize(
    ("absence", "where"), [("only_pay", "after_intent"), ("only_reserve", "before_check")], indirect=["absence"]
)
def test_a_worker_that_was_away_and_missed_by_nobody_goes_on(absence: Absence, where: str) -> None:
    """As after a laptop's sleep: the lease has run out, and the runs are still its own."""
    absence.stopped_at(where)
    time.sleep(LEASE_S * 1.5)
    absence.go_on()
    step = {"only_pay": "pay", "only_reserve": "reserve a"}[absence.run[0]]
    assert (absence.status, absence.times(step)) == ("completed", 1)


@pytest.mark.parametrize("absence", ["only_pay"], indirect=True)
def test_a_worker_that_takes_back_its_own_run_finds_out_what_it_had_begun(absence: Absence) -> None:
    """Away past its lease, in the middle of a step; when it is back, another run is due, and it claims both."""
    absence.world.manner = lambda effect, asked: "hold" if effect.step == "pay" else "answer"
    absence.stopped_when_held()
    asyncio.run(absence.start("only_reserve", "another"))
    time.sleep(LEASE_S * 1.5)
    os.kill(absence.first, signal.SIGCONT)
    time.sleep(LEASE_S / 2)
    absence.world.release()
    assert absence.workers.wait(absence.first) == ENDED, errors_of(absence.store)
    assert {row.status for row, _ in absence.journals()} == {"completed"}
    assert (absence.times("pay"), len(absence.world.of("another"))) == (1, 1)


@pytest.mark.parametrize("absence", ["only_reserve"], indirect=True)
def test_nobody_writes_while_a_worker_is_stopped_inside_a_transaction(absence: Absence) -> None:
    """It holds the file's write lock: the others wait for it, lose nothing, and go on when it is back or gone."""
    absence.stopped_at("before_commit", writing=True)
    other = absence.spawn()
    time.sleep(LEASE_S * 1.5)
    assert not absence.world.effects
    os.kill(absence.first, signal.SIGCONT)
    assert absence.workers.wait(other) == absence.workers.wait(absence.first) == ENDED
    assert absence.status == "completed"
    assert absence.times("reserve a") in (1, 2)  # a lease that could not be renewed meanwhile has run out


# --- the window that remains (ADR 0004): stopped between the check of its ownership and the effect --------------------


@pytest.mark.parametrize("absence", ["only_reserve"], indirect=True)
def test_in_the_window_an_idempotent_effect_happens_again_with_its_key(absence: Absence) -> None:
    absence.stopped_at("before_effect")
    absence.replaced()
    assert absence.times("reserve a") == 1
    absence.back()
    assert absence.times("reserve a") == 2


@pytest.mark.parametrize(("absence", "step"), [("only_ship", "ship 0"), ("only_pay", "pay")], indirect=["absence"])
def test_in_the_window_the_new_owner_of_an_irreversible_effect_asks_and_does_not_repeat(
    absence: Absence, step: str
) -> None:
    """Also where a hook says that it has not happened: the old owner is not proved dead, and may still do it."""
    absence.stopped_at("before_effect", people=False)
    absence.replaced(people=False)
    assert absence.status == "waiting"  # for a person
    assert absence.times(step) == 0
    absence.back()  # it had looked before it was stopped: the effect happens under a lost lease, unwritten
    assert (absence.status, absence.times(step)) == ("waiting", 1)
    absence.replaced()  # the person looks now, and says: done
    assert (absence.status, absence.times(step)) == ("completed", 1)
