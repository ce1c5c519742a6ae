"""Files that cannot be used: each gives one clear message (what, where, how to mend), and no accepted work is lost.

Permissions are tested as another user where the tests run as root, whom permissions do not bind.
"""

import asyncio
import logging
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import apsw
import pytest

from cadenza import Context, Done, Engine, NotDone, RunBlocked, step, workflow
from cadenza.engine.sqlite import database
from cadenza.errors import CadenzaError, StoreCorrupt, StoreUnavailable, StoreVersion
from cadenza.errors.store import DISK_FULL, MAKE_ROOM
from tests.conformance.disk import watched_disk

ROOT = Path(__file__).parents[2]
PAGE = 4_096
PATIENCE_S = 20.0

done: Counter[str] = Counter()


@step
async def write(number: int) -> str:
    done[step.key()] += 1
    return "x" * 3_000


async def was_done(number: int) -> Done | NotDone:
    return Done(number) if done[step.key()] else NotDone()


@step(effect="irreversible", reconcile=was_done)
async def act(number: int) -> int:
    done[step.key()] += 1
    return number


@workflow
async def chain(ctx: Context, length: int) -> int:
    for number in range(length):
        await ctx.step(write, number)
        await ctx.step(act, number)
    return length


@workflow
async def parked(ctx: Context, number: int) -> int:
    await ctx.step(act, number)
    return number + await ctx.receive("go", int)


async def use(path: Path | str) -> int:
    """Open the store and run something on it."""
    async with Engine.open(path) as engine, asyncio.timeout(PATIENCE_S):
        return await (await engine.start(chain, 2)).result()


def refusal(path: Path | str, kind: type[CadenzaError]) -> str:
    """The message with which a store is refused."""
    with pytest.raises(kind) as caught:
        asyncio.run(use(path))
    message = str(caught.value)
    assert message.startswith(str(path)), "it does not say where"
    assert "\n" not in message
    return message


@contextmanager
def outside(path: Path) -> Iterator[apsw.Connection]:
    """The file, as a program that is not Cadenza has it open."""
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(10_000)
    try:
        yield connection
    finally:
        connection.close()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A sound store on which two runs have ended and one waits for a message."""
    path = tmp_path / "store.db"

    async def main() -> None:
        async with Engine.open(path) as engine:
            for length in (1, 3):
                assert await (await engine.start(chain, length, id=f"chain{length}")).result() == length
            await (await engine.start(parked, 40, id="parked")).settled()

    asyncio.run(main())
    return path


# --- not ours ---------------------------------------------------------------------------------------------------------


def test_file_of_a_newer_version_is_left_alone(store: Path) -> None:
    with outside(store) as connection:
        connection.pragma("user_version", 99)
    before = contents(store.parent)
    message = refusal(store, StoreVersion)
    assert contents(store.parent) == before
    assert "written by a newer Cadenza (schema 99" in message
    assert "pip install -U cadenza" in message


@pytest.mark.parametrize("pragmas", [{}, {"user_version": 1}, {"user_version": 7}, {"application_id": 77}])
def test_database_of_another_program_is_left_alone(tmp_path: Path, pragmas: dict[str, int]) -> None:
    path = tmp_path / "other.db"
    with outside(path) as connection:
        connection.execute("CREATE TABLE theirs (a); INSERT INTO theirs VALUES (1)")
        for name, value in pragmas.items():
            connection.pragma(name, value)
    before = contents(tmp_path)
    message = refusal(path, StoreVersion)
    assert contents(tmp_path) == before
    assert [each.name for each in tmp_path.iterdir()] == ["other.db"]
    assert "database of another program" in message
    assert "choose another path" in message


@pytest.mark.parametrize(
    "content", [b"hello\n", b"hello world\n" * 1_000, bytes(8_192), b"\x7fELF" + bytes(200)], ids=len
)
def test_file_that_is_no_database_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    message = refusal(path, StoreCorrupt)
    assert path.read_bytes() == content
    assert "no SQLite database" in message
    assert "Choose another path" in message


def test_empty_file_is_a_new_store(tmp_path: Path) -> None:
    (tmp_path / "new.db").touch()
    assert asyncio.run(use(tmp_path / "new.db")) == 2


# --- no file ----------------------------------------------------------------------------------------------------------


def test_folder_is_no_store(tmp_path: Path) -> None:
    message = refusal(tmp_path, StoreUnavailable)
    assert "it is a folder" in message
    assert str(tmp_path / "cadenza.db") in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("parent", ["missing", "missing/deeper", "a file"])
def test_missing_folder_is_named(tmp_path: Path, parent: str) -> None:
    (tmp_path / "a file").touch()
    message = refusal(tmp_path / parent / "store.db", StoreUnavailable)
    assert "its folder does not exist" in message
    assert f"mkdir -p {tmp_path / parent}" in message


def test_lock_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "store.db-locks").touch()
    with pytest.raises(StoreUnavailable, match=r"store\.db-locks: file exists"):
        asyncio.run(use(tmp_path / "store.db"))


# --- damaged ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damaged", [slice(0, 16), slice(0, 100), slice(16, 100)])
def test_damaged_header_is_reported_and_left_alone(store: Path, damaged: slice) -> None:
    content = bytearray(store.read_bytes())
    content[damaged] = Random(1).randbytes(damaged.stop - damaged.start)
    store.write_bytes(content)
    message = refusal(store, StoreCorrupt)
    assert store.read_bytes() == content
    assert "restore a backup" in message


def test_truncated_file_is_reported(store: Path) -> None:
    content = store.read_bytes()
    store.write_bytes(content[: len(content) // 2 // PAGE * PAGE])
    message = refusal(store, StoreCorrupt)
    assert "damaged" in message
    assert ".recover" in message


def test_damage_to_any_page_is_reported_or_does_not_matter(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No page makes an engine hang, fail with a bare exception, or give a wrong answer."""
    content = store.read_bytes()
    reported = 0
    for page in range(1, len(content) // PAGE):
        damaged = bytearray(content)
        damaged[page * PAGE : (page + 1) * PAGE] = Random(page).randbytes(PAGE)
        store.write_bytes(damaged)
        answers = asyncio.run(read_all(store))
        if isinstance(answers, str):
            reported += 1
            assert str(store) in answers
            assert re.search("damaged|cannot be read|a gap|not what was written", answers)
        else:
            assert answers == [1, 3, 42, 2], f"page {page + 1}"
        for leftover in ("-wal", "-shm"):
            store.with_name(store.name + leftover).unlink(missing_ok=True)
    assert reported >= 5


async def read_all(path: Path) -> list[int] | str:
    """What runs result in; or what is said about the damage, by the store or by a run that is blocked."""
    try:
        async with Engine.open(path) as engine, asyncio.timeout(PATIENCE_S):
            finished = [await engine.handle(f"chain{length}").result() for length in (1, 3)]
            waiting = await engine.resume("parked")
            await waiting.signal("go", 2)
            return [*finished, await waiting.result(), await (await engine.start(chain, 2)).result()]
    except (StoreCorrupt, RunBlocked) as error:
        return str(error)


DAMAGE = {
    "event 2 of run number": "UPDATE journal SET event = x'c1ff00' WHERE id = ?1 << 24 | 2",
    "cannot be read": "UPDATE journal SET event = x'82a474797065a5726561645fa26174' WHERE id = ?1 << 24 | 1",
    "a gap": "DELETE FROM journal WHERE id = ?1 << 24 | 2",
    "letter": "INSERT INTO inbox (run_no, event) VALUES (?1, x'c1')",
}


@pytest.mark.parametrize("said", DAMAGE)
def test_run_whose_journal_is_damaged_is_blocked_and_the_others_go_on(store: Path, said: str) -> None:
    undamaged = store.with_name("copy.db")
    shutil.copy(store, undamaged)

    async def main() -> None:
        async with Engine.open(store) as engine, asyncio.timeout(PATIENCE_S):
            waiting = engine.find("parked")
            with outside(store) as connection:
                connection.execute(DAMAGE[said], (waiting.no,))
            await engine.signal("parked", "go", 2)
            handle = await engine.resume("parked")
            with pytest.raises(RunBlocked) as blocked:
                await handle.result()
            assert str(store) in blocked.value.detail
            assert said in blocked.value.detail
            assert ".recover" in blocked.value.detail
            assert await (await engine.start(chain, 1)).result() == 1
            mend(store, undamaged, waiting.no)
            again = await engine.resume("parked")
            assert await again.result() == 42

    asyncio.run(main())


def mend(store: Path, undamaged: Path, no: int) -> None:
    """Put back a run's journal from a backup."""
    with outside(store) as connection:
        connection.execute("ATTACH ? AS backup", (str(undamaged),))
        connection.execute("DELETE FROM inbox WHERE event = x'c1'")
        connection.execute("REPLACE INTO journal SELECT * FROM backup.journal WHERE id >> 24 = ?", (no,))


@pytest.mark.parametrize("damage", ["UPDATE blob SET body = zeroblob(length(body))", "DELETE FROM blob"])
def test_payload_that_is_not_what_was_written_is_noticed(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "store.db"

    async def main() -> None:
        async with Engine.open(path) as engine, asyncio.timeout(PATIENCE_S):
            handle = await engine.start(echo, "y" * 50_000)
            assert await handle.result() == "y" * 50_000
            with outside(path) as connection:
                connection.execute(damage)
            with pytest.raises(StoreCorrupt, match="the payload of event 2 of run number 1 is not what was written"):
                await handle.result()

    asyncio.run(main())


@workflow
async def echo(ctx: Context, text: str) -> str:
    return text


# --- not writable -----------------------------------------------------------------------------------------------------

AS_SOMEBODY = """
import asyncio, os, sys, tempfile
from pathlib import Path
from tests.acceptance.test_bad_stores import use
with tempfile.TemporaryDirectory() as folder:
    asyncio.run(use(Path(folder) / "warm.db"))   # imports what is imported late, while this user may read it
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
for path in sys.argv[1:]:
    try:
        print(asyncio.run(use(Path(path))))
    except Exception as error:
        print(type(error).__name__, error)
"""
FORBIDDEN: dict[str, tuple[str, int]] = {
    "everything is allowed": ("store.db", 0o777),
    "a read-only file": ("store.db", 0o444),
    "an unreadable file": ("store.db", 0),
    "a read-only folder": (".", 0o555),
    "locks of another user": ("store.db-locks/turn", 0),
}


@pytest.fixture(scope="module")
def somebody() -> Iterator[tuple[Path, dict[str, str]]]:
    """What becomes of stores for a user who is not root: the folder in which they are, and the answers."""
    folder = Path(tempfile.mkdtemp(prefix="cadenza-somebody-"))
    folder.chmod(0o777)
    for name, (what, mode) in FORBIDDEN.items():
        (folder / name).mkdir()
        asyncio.run(use(folder / name / "store.db"))
        for path in [folder / name, *(folder / name).rglob("*")]:
            path.chmod(0o777)
        (folder / name / what).chmod(mode)
    (folder / "an empty read-only folder").mkdir(mode=0o555)
    names = sorted(each.name for each in folder.iterdir())
    command = [sys.executable, "-c", AS_SOMEBODY, *(str(folder / name / "store.db") for name in names)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    assert ended.stderr == "", "more than one message"
    yield folder, dict(zip(names, ended.stdout.splitlines(), strict=True))
    for path in [folder, *folder.iterdir()]:
        path.chmod(0o777)
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("everything is allowed", "2"),
        ("a read-only file", "StoreUnavailable {path}: it is read-only."),
        ("an unreadable file", "StoreUnavailable {path}: it cannot be opened."),
        ("a read-only folder", "StoreUnavailable {path}: it is read-only."),
        ("an empty read-only folder", "StoreUnavailable {path}: it cannot be opened."),
        ("locks of another user", "StoreUnavailable {path}-locks/turn: it is read-only."),
    ],
)
def test_forbidden_store_is_refused_when_it_is_opened(
    somebody: tuple[Path, dict[str, str]], name: str, expected: str
) -> None:
    folder, answers = somebody
    assert answers[name].startswith(expected.format(path=folder / name / "store.db"))
    if name != "everything is allowed":
        assert "Nothing that was accepted is lost. Give this user the right to" in answers[name]


# --- in the way -------------------------------------------------------------------------------------------------------


def test_lock_of_another_program_is_waited_for_and_then_reported(
    store: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(database, "BUSY_S_MAX", 0.3)

    async def main() -> None:
        async with Engine.open(store) as engine, asyncio.timeout(PATIENCE_S):
            handle = engine.handle("parked")
            with outside(store) as other:
                other.execute("BEGIN IMMEDIATE")
                with pytest.raises(StoreUnavailable) as refused:
                    await handle.signal("go", 2)
                assert "another program holds its lock" in str(refused.value)
                other.execute("ROLLBACK")
            await handle.signal("go", 2)
            assert await (await engine.resume("parked")).result() == 42

    asyncio.run(main())


@pytest.mark.parametrize("begin", ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"])
def test_new_file_that_another_process_is_making_is_waited_for(tmp_path: Path, begin: str) -> None:
    path = tmp_path / "store.db"
    opened: list[int] = []
    with outside(path) as other:
        other.execute(f"{begin}; CREATE TABLE half_made (a)")
        thread = threading.Thread(target=lambda: opened.append(asyncio.run(use(path))))
        thread.start()
        time.sleep(0.3)
        assert not opened
        other.execute("ROLLBACK")
        thread.join(PATIENCE_S)
    assert opened == [2]


# --- a full disk ------------------------------------------------------------------------------------------------------


class FullDisk:
    """Lets so many bytes be written, and then no more until there is room again."""

    def __init__(self, room_bytes: int) -> None:
        self.room_bytes = room_bytes
        self.refused = 0

    def take(self, size: int) -> None:
        if size > self.room_bytes:
            self.refused += 1
            raise apsw.FullError
        self.room_bytes -= size


@pytest.mark.parametrize("restarted", [False, True], ids=["same process", "next process"])
def test_runs_go_on_when_a_full_disk_has_room_again(
    tmp_path: Path, restarted: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The disk is full at every twentieth kilobyte of a run's life: always the same result, and nothing is done twice
    that must not be."""
    caplog.set_level(logging.CRITICAL, "cadenza")
    refused = 0
    for room_bytes in range(5_000, 160_000, 20_000):
        done.clear()
        path = tmp_path / f"{room_bytes}.db"
        refused += asyncio.run(fill_and_make_room(path, room_bytes, restarted))
        assert len(done) == 7
        assert all(times == 1 for key, times in done.items() if "act" in key), "an irreversible step was done twice"
    assert refused >= 6


async def fill_and_make_room(path: Path, room_bytes: int, restarted: bool) -> bool:
    with watched_disk() as disk:
        full = FullDisk(10**9)
        disk.before_write = full.take
        engine = Engine.open(path)
        async with engine, asyncio.timeout(PATIENCE_S):
            first = await engine.start(parked, 1, id="accepted before")
            await first.settled()
            full.room_bytes = room_bytes
            refusal = await run_until_refused(engine)
            assert refusal in ("", f"{path}: {DISK_FULL}. Nothing that was accepted is lost. {MAKE_ROOM}")
            if not restarted:
                full.room_bytes = 10**9
                await finish(engine)
        full.room_bytes = 10**9
        if restarted:
            async with Engine.open(path) as again, asyncio.timeout(PATIENCE_S):
                await finish(again)
        assert full.refused or not refusal
        return bool(refusal)


async def run_until_refused(engine: Engine) -> str:
    """What is said when something is refused."""
    try:
        await (await engine.start(chain, 3, id="accepted")).result()
        await engine.signal("accepted before", "go", 1)
    except StoreUnavailable as error:
        return str(error)
    return ""


async def finish(engine: Engine) -> None:
    """Everything to its end; what was refused is asked for again."""
    handle = await engine.start(chain, 3, id="accepted", on_conflict="join")
    await engine.resume("accepted")
    assert await handle.result() == 3
    if not engine.find("accepted before").ended:
        await engine.signal("accepted before", "go", 1)
    assert await (await engine.resume("accepted before")).result() == 2


ON_A_SMALL_DISK = """
import asyncio, sys
from pathlib import Path
from cadenza import Context, Done, Engine, NotDone, RunBlocked, step, workflow
from cadenza.errors import StoreUnavailable
folder = Path(sys.argv[1])
filled = []
@step
async def fill(number: int) -> int:
    if not filled:
        filled.append(number)
        with open(folder / "ballast", "wb", 0) as ballast:
            for size in (65_536, 512):
                try:
                    while True:
                        ballast.write(bytes(size))
                except OSError:
                    pass
    return number
@step
async def write(number: int) -> str:
    return "x" * 8_000
@workflow
async def flow(ctx: Context, number: int) -> int:
    for each in range(5):
        await ctx.step(write, each)
    await ctx.step(fill, number)
    for each in range(20):
        await ctx.step(write, each)
    return number
async def main():
    async with Engine.open(folder / "store.db") as engine:
        handle = await engine.start(flow, 17)
        try:
            await asyncio.wait_for(handle.result(), 20)
            print("it was never full")
        except StoreUnavailable as error:
            print(error)
        (folder / "ballast").unlink()
        print(await asyncio.wait_for(handle.result(), 20))
asyncio.run(main())
"""


def test_full_file_system_is_reported_and_the_run_goes_on_in_the_same_process(tmp_path: Path) -> None:
    """On a real file system of one megabyte, in a mount namespace of its own."""
    inside = f"mount -t tmpfs -o size=1m tmpfs {tmp_path} && exec {sys.executable} -c '{ON_A_SMALL_DISK}' {tmp_path}"
    unshare = ["unshare", *([] if os.getuid() == 0 else ["-r"]), "-m", "sh", "-c"]
    probe = (
        subprocess.run(
            [*unshare, f"mount -t tmpfs tmpfs {tmp_path}"], capture_output=True, text=True, check=False, timeout=30
        )
        if shutil.which("unshare")
        else None
    )
    if probe is None or probe.returncode:
        pytest.skip("no file system may be mounted here: only a simulated full disk is tested")
    ended = subprocess.run([*unshare, inside], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert ended.stdout.splitlines() == [
        f"{tmp_path}/store.db: the disk is full. Nothing that was accepted is lost. "
        "Free some space and start again: runs go on where they were.",
        "17",
    ], ended.stderr


def test_limit_on_file_size_is_reported_and_the_run_goes_on(tmp_path: Path) -> None:
    """The write-ahead log may not grow: ``ulimit -f`` in a process of its own."""
    script = (
        "import asyncio, sys; from tests.acceptance.test_bad_stores import *; asyncio.run(limited(Path(sys.argv[1])))"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "store.db")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr


async def limited(path: Path) -> None:
    async with Engine.open(path) as engine, asyncio.timeout(PATIENCE_S):
        waiting = await engine.start(parked, 1)
        await waiting.settled()
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
        with pytest.raises(StoreUnavailable, match="the disk reports an error"):
            await (await engine.start(chain, 60, id="long")).result()
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        assert await (await engine.start(chain, 60, id="long", on_conflict="join")).result() == 60
        await waiting.signal("go", 1)
        assert await waiting.result() == 2
