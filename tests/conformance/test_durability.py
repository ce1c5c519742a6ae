"""What a store has told to be written is on the disk, and not only in the operating system's memory.

Counted twice: by a shim below SQLite, which always runs, and from outside by strace. Each count is shown to notice a
weaker ``synchronous``; the tests that it guards would pass with it.
"""

import itertools
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

import cadenza
from cadenza import Context, step, workflow
from cadenza.engine.sqlite import commit, database
from cadenza.engine.sqlite.database import connect
from cadenza.engine.store import Operation
from tests.conformance.disk import Disk, watched_disk
from tests.conformance.stores import Client, append, completed, dump, sqlite

ROOT = Path(__file__).parents[2]
COMMITS = 20
WEAKER = ["off", "normal"]


@pytest.fixture
def disk() -> Iterator[Disk]:
    with watched_disk() as made:
        yield made


def weaken(monkeypatch: pytest.MonkeyPatch, synchronous: str) -> None:
    """The writer's connection with another ``synchronous``."""

    def weaker(path: Path, *, writer: bool) -> apsw.Connection:
        connection = connect(path, writer=writer)
        connection.pragma("synchronous", synchronous)
        return connection

    monkeypatch.setattr(commit, "connect", weaker)


def syncs_while(disk: Disk, work: Callable[[], Any]) -> int:
    before = disk.syncs_of("-wal")
    work()
    return disk.syncs_of("-wal") - before


def write_singly(client: Client) -> None:
    for number in range(COMMITS):
        client.create(f"r{number}")


@pytest.mark.parametrize("inline", [False, True], ids=["on the loop", "inline"])
def test_every_commit_is_synced_once(disk: Disk, tmp_path: Path, inline: bool) -> None:
    with sqlite(tmp_path / "store.db", inline=inline) as client:
        assert syncs_while(disk, lambda: write_singly(client)) == COMMITS


@pytest.mark.parametrize("synchronous", WEAKER)
def test_weaker_pragma_is_noticed(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, synchronous: str
) -> None:
    weaken(monkeypatch, synchronous)
    with sqlite(tmp_path / "store.db") as client:
        assert syncs_while(disk, lambda: write_singly(client)) < 2


def test_batch_is_synced_once_before_anybody_is_told(disk: Disk, tmp_path: Path) -> None:
    with sqlite(tmp_path / "store.db") as client:
        rows = [client.owned(f"r{number}") for number in range(30)]
        operations: list[Operation[Any]] = [append(row, 1, completed()) for row in rows]
        at_the_telling: list[int] = []
        before = disk.syncs_of("-wal")
        submit = client.store.submit

        def watched(operation: Operation[Any], done: Any, *, inline: bool = False) -> None:
            def tell(result: Any, error: Exception | None) -> None:
                at_the_telling.append(disk.syncs_of("-wal") - before)
                done(result, error)

            submit(operation, tell, inline=inline)

        client.store.submit = watched
        client.batch(operations)
        assert at_the_telling == [1] * 30


def test_reading_and_refused_operations_sync_nothing(disk: Disk, tmp_path: Path) -> None:
    with sqlite(tmp_path / "store.db") as client:
        row = client.owned()
        stale = append(row, 9, completed())
        assert syncs_while(disk, lambda: (client.batch([stale]), client.claim("two"), dump(client.store))) == 0


@pytest.mark.parametrize("seed", range(12))
def test_what_was_told_survives_a_power_cut(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Unsynced sectors are lost at random, in the log and in the database, also in the middle of a checkpoint."""
    monkeypatch.setattr(database, "CHECKPOINT_PAGES", 20)
    assert survives_power_cut(disk, tmp_path, seed)


@pytest.mark.parametrize("synchronous", WEAKER)
def test_power_cut_would_be_noticed(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, synchronous: str
) -> None:
    weaken(monkeypatch, synchronous)
    assert not all(survives_power_cut(disk, tmp_path, seed) for seed in range(6))


def survives_power_cut(disk: Disk, folder: Path, seed: int) -> bool:
    """Writes for a while, and cuts the power: whether all that was told until then is there."""
    before, after = folder / f"before{seed}", folder / f"after{seed}"
    before.mkdir()
    after.mkdir()
    with sqlite(before / "store.db", inline=seed % 2 == 0) as client:
        rows = [client.owned(f"r{number}") for number in range(4)]
        for number in range(1, 8 + seed):
            client.batch([append(row, number, completed(f"s#{number}", b"1" * 3_000)) for row in rows])
        told = dump(client.store)
        disk.after_power_cut(before, after, seed)
    try:
        with sqlite(after / "store.db") as client:
            return dump(client.store) == told
    except cadenza.CadenzaError:
        return False


# --- the engine -------------------------------------------------------------------------------------------------------

seen: list[int] = []
watching: list[Disk] = []


@step
async def look(number: int) -> int:
    seen.append(watching[0].syncs_of("-wal"))
    return number


@step(effect="read")
async def glance(number: int) -> int:
    return await look.fn(number)


@step(effect="irreversible")
async def act(number: int) -> int:
    return await look.fn(number)


@workflow
async def chain(ctx: Context, kind: str) -> int:
    fn = {"idempotent": look, "read": glance, "irreversible": act}[kind]
    for number in range(10):
        await ctx.step(fn, number)
    return 10


@pytest.mark.parametrize(("kind", "syncs_each"), [("idempotent", 1), ("irreversible", 2), ("read", 0)])
def test_outcome_is_on_disk_before_the_next_step_starts(disk: Disk, tmp_path: Path, kind: str, syncs_each: int) -> None:
    """An irreversible step has its intent synced besides; what is only read need not be."""
    seen.clear()
    watching[:] = [disk]
    assert cadenza.run(chain, kind, store=tmp_path / "store.db") == 10
    between = [later - earlier for earlier, later in itertools.pairwise(seen)]
    assert all(number >= syncs_each for number in between)
    if syncs_each:
        assert sum(between) <= 9 * syncs_each + 3  # and no more than that, renewals of the lease aside


@workflow
async def alternate(ctx: Context, number: int) -> int:
    for each in range(5):
        await ctx.step(look, each)
        await ctx.step(glance, each)
    return number


def test_outcome_is_on_disk_before_the_run_goes_on_to_what_is_only_read(disk: Disk, tmp_path: Path) -> None:
    seen.clear()
    watching[:] = [disk]
    assert cadenza.run(alternate, 1, store=tmp_path / "store.db") == 1
    assert all(at_glance > at_look for at_look, at_glance in zip(seen[::2], seen[1::2], strict=True))


# --- from outside -----------------------------------------------------------------------------------------------------

WRITE = """
import sys
from pathlib import Path
from cadenza.engine.sqlite import commit, database
from tests.conformance.stores import sqlite
if sys.argv[2]:
    def weaker(path, *, writer):
        connection = database.connect(path, writer=writer)
        connection.pragma("synchronous", sys.argv[2])
        return connection
    commit.connect = weaker
with sqlite(Path(sys.argv[1])) as client:
    for number in range(int(sys.argv[3])):
        client.create(f"r{number}")
"""


def traced_syncs(path: Path, synchronous: str) -> int:
    """How often a process that writes COMMITS times has the kernel sync the log."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed (apt-get install strace): the kernel's side of durability is not counted")
    log = path.with_suffix(".strace")
    command = [strace, "-f", "-y", "-qq", "-e", "trace=fsync,fdatasync", "-o", str(log)]
    python = [sys.executable, "-c", WRITE, str(path), synchronous, str(COMMITS)]
    done = subprocess.run([*command, *python], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    if "ptrace" in done.stderr:
        pytest.skip(f"strace may not trace here: {done.stderr.strip().splitlines()[0]}")
    assert done.returncode == 0, done.stderr
    return sum("sync(" in line and "-wal>" in line for line in log.read_text().splitlines())


def test_kernel_syncs_every_commit(tmp_path: Path) -> None:
    assert COMMITS <= traced_syncs(tmp_path / "store.db", "") <= COMMITS + 3


@pytest.mark.parametrize("synchronous", WEAKER)
def test_kernel_count_notices_a_weaker_pragma(tmp_path: Path, synchronous: str) -> None:
    assert traced_syncs(tmp_path / "store.db", synchronous) < 5
