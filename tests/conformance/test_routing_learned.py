"""What is learned survives the process, and all processes of one file learn together."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from cadenza.engine.catalogue import Catalogue
from cadenza.routing.learn import Learning, Observation, Performance
from cadenza.routing.learned import TRIMMED_EVERY, Learned, learned_in

NOW = 1_700_000_000_000_000

OBSERVER = """
import sys
from pathlib import Path
from cadenza.engine.catalogue import Catalogue
from cadenza.routing.learn import Observation
from cadenza.routing.learned import Learned
path, first, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
learned = Learned(Catalogue(path))
print("ready", flush=True)
sys.stdin.readline()
for number in range(first, last):
    learned.observe(Observation(f"k{number}", "a@1/", "sum", number % 4 > 0, 1.0, None, 1_700_000_000_000_000 + number))
    print(number, flush=True)
"""


def seen(number: int, instance: str = "a@1/", skill: str = "sum") -> Observation:
    return Observation(f"k{number}", instance, skill, number % 4 > 0, 1.0, 0.5, NOW + number)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture(params=["file", "memory"])
def catalogue(request: pytest.FixtureRequest, path: Path) -> Iterator[Catalogue]:
    made = Catalogue(path if request.param == "file" else None)
    yield made
    made.close()


def observer(path: Path, first: int, last: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", OBSERVER, str(path), str(first), str(last)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_the_file_learns_what_memory_would(catalogue: Catalogue) -> None:
    plain, learned = Performance(), Learned(catalogue)
    observations = [seen(number, f"{number % 3}@1/", "xy"[number % 2]) for number in range(200)]
    for observation in observations:
        plain.observe(observation)
    assert learned.observe(*observations) == 200
    assert learned.performance.dumped() == plain.dumped()
    assert Learned(catalogue).performance.dumped() == plain.dumped()


def test_a_key_counts_once_whoever_brings_it(catalogue: Catalogue) -> None:
    first, second = Learned(catalogue), Learned(catalogue)
    assert first.observe(seen(1), seen(1)) == 1
    assert second.observe(seen(1)) == 0
    assert second.performance.known("a@1/", "sum", NOW).seen == 1


def test_one_copy_sees_what_the_other_learned_when_it_is_refreshed(catalogue: Catalogue) -> None:
    first, second = Learned(catalogue), Learned(catalogue)
    first.observe(seen(1), seen(2, "b@1/"))
    second.refresh()
    assert second.performance.dumped() == first.performance.dumped()


def test_what_was_known_before_a_restart_is_known_after_it(path: Path) -> None:
    before = Catalogue(path)
    learned = Learned(before)
    learned.observe(*map(seen, range(30)))
    before.close()
    after = Catalogue(path)
    assert Learned(after).performance.dumped() == learned.performance.dumped()
    after.close()


def test_an_observation_that_cannot_be_written_leaves_the_others_unwritten_too(catalogue: Catalogue) -> None:
    learned = Learned(catalogue)
    broken = Observation("broken", "a@1/", "sum", True, 1.0, None, at=2**70)
    with pytest.raises(OverflowError):
        learned.observe(seen(1), broken)
    assert learned.performance.dumped() == []
    assert learned.observe(seen(1)) == 1


def test_the_tables_are_bounded(catalogue: Catalogue) -> None:
    learned = Learned(catalogue, Learning(pairs_max=10, keys_max=100))
    learned.observe(*(seen(number, f"{number}@1/") for number in range(TRIMMED_EVERY)))
    assert catalogue.read("SELECT count(*) FROM routing_performance") == [(10,)]
    assert catalogue.read("SELECT count(*), min(number) FROM routing_observed") == [(100, TRIMMED_EVERY - 99)]
    assert len(learned.performance.dumped()) == 10


def test_a_catalogue_has_one_copy_and_lets_it_go(path: Path) -> None:
    catalogue = Catalogue(path)
    assert learned_in(catalogue).performance is learned_in(catalogue).performance
    Learned(catalogue).observe(seen(1))
    assert learned_in(catalogue).performance.known("a@1/", "sum", NOW).seen == 1
    catalogue.close()
    gone = weakref.ref(catalogue)
    del catalogue
    gc.collect()
    assert gone() is None


def test_processes_that_learn_at_the_same_time_lose_nothing_and_count_nothing_twice(path: Path) -> None:
    processes = [observer(path, 0, 150), observer(path, 100, 250), observer(path, 50, 200)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    catalogue = Catalogue(path)
    known = Learned(catalogue).performance.known("a@1/", "sum", NOW)
    assert known.seen == 250
    assert known.successes + known.failures == pytest.approx(50, rel=0.01)
    catalogue.close()


@pytest.mark.sigkill
def test_what_was_observed_survives_kill_9_and_is_not_counted_again_after_it(path: Path) -> None:
    process = observer(path, 0, 100_000)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    told = [process.stdout.readline() for _ in range(57)]
    process.send_signal(signal.SIGKILL)
    with process:
        told += process.stdout.readlines()
    if not told[-1].endswith("\n"):
        told.pop()
    catalogue = Catalogue(path)
    learned = Learned(catalogue)
    counted = learned.performance.known("a@1/", "sum", NOW).seen
    assert len(told) <= counted <= len(told) + 1
    assert learned.observe(*map(seen, range(counted + 200))) == 200
    assert learned.performance.known("a@1/", "sum", NOW).seen == counted + 200
    catalogue.close()
