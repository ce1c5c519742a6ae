"""A writer that dies between two statements, or between statement and commit, leaves nothing; after commit, everything.

Real processes, real SIGKILLs: at named failpoints, and at any time.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import apsw
import pytest

from cadenza.engine.sqlite.store import SQLiteStore
from tests.conformance.batch_writer import RUNS, one_of_each, prepare
from tests.conformance.stores import Client, dump, sqlite

pytestmark = pytest.mark.sigkill
ROOT = Path(__file__).parents[2]
KILLS = 30 if os.environ.get("CADENZA_DEEP") else 8


def writer(path: Path, *mode: str, failpoint: str = "") -> subprocess.Popen[str]:
    """Starts tests/conformance/batch_writer.py."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.conformance.batch_writer", str(path), *mode],
        cwd=ROOT,
        env=os.environ | {"CADENZA_FAILPOINT": failpoint},
        stdout=subprocess.PIPE,
        text=True,
    )


def intact(path: Path) -> bool:
    connection = apsw.Connection(str(path))
    try:
        return [row for (row,) in connection.execute("PRAGMA integrity_check")] == ["ok"]
    finally:
        connection.close()


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    path = tmp_path / "store.db"
    with sqlite(path) as client:
        prepare(client)
    return path


def dump_of(path: Path) -> dict[str, object]:
    with sqlite(path) as client:
        return dump(client.store)


@pytest.mark.parametrize(
    ("failpoint", "survives"), [("in_claim", False), ("before_commit", False), ("after_commit", True)]
)
@pytest.mark.parametrize("thread", ["loop", "inline"])
def test_batch_of_a_killed_writer_is_there_whole_or_not_at_all(
    prepared: Path, failpoint: str, survives: bool, thread: str
) -> None:
    """Inline, the first commit is that which gathers the batch (see Client.batch), and the second is the batch."""
    if thread == "inline" and failpoint != "in_claim":
        failpoint += ":2"
    before = dump_of(prepared)
    twin = shutil.copy(prepared, prepared.with_name("twin.db"))
    with sqlite(Path(twin)) as client:
        settled = client.batch(one_of_each(client))
        assert [error is None for _, error in settled].count(False) == 1  # the append that comes too late
        everything = dump(client.store)
    assert everything["runs"] != before["runs"]
    with writer(prepared, "one", thread, failpoint=failpoint) as process:
        assert process.wait(60) == -signal.SIGKILL
    assert dump_of(prepared) == (everything if survives else before)
    assert intact(prepared)


def test_what_was_told_is_there_and_batches_are_whole_whenever_the_writer_dies(prepared: Path) -> None:
    chance = random.Random(7)
    told = 1
    for number in range(KILLS):
        with writer(prepared, "many", "inline" if number % 2 else "loop") as process:
            assert process.stdout is not None
            told = int(process.stdout.readline())
            time.sleep(chance.uniform(0.0, 0.05))
            process.kill()
            told = max([told, *(int(line) for line in process.stdout.read().split()[:-1])])
        with sqlite(prepared) as client:
            lengths = {len(client.journal(f"many{number}")) for number in range(RUNS)}
        assert len(lengths) == 1, "a batch was torn"
        assert lengths.pop() >= told, "what was told to be on disk is lost"
    assert told > KILLS
    assert intact(prepared)


def test_store_that_was_killed_is_opened_by_many_at_once(prepared: Path) -> None:
    """The first to come recovers the log; the others wait for it."""
    with writer(prepared, "one", failpoint="after_commit") as process:
        process.wait(60)
    clients = [Client(SQLiteStore(prepared)) for _ in range(4)]
    assert len({str(dump(client.store)) for client in clients}) == 1
    for client in clients:
        client.close()
