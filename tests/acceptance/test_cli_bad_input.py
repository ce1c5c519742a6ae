"""What people get wrong: each is one clear message on standard error, the right exit code, and no traceback of ours."""

import ctypes
import os
import resource
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.commands import Done, Project

PR_CAPBSET_DROP = 24
WRITES_ANYWHERE = (1, 2, 3)  # the capabilities by which root ignores permissions


@pytest.fixture
def cadenza(tmp_path: Path) -> Project:
    return Project(tmp_path)


def assert_refused(done: Done, code: int, *says: str) -> None:
    assert done.code == code, done.err
    assert done.out == ""
    assert "Traceback" not in done.err
    for each in says:
        assert each in done.err, done.err


ORDER = '{"id": 1, "item": "tea"}'


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["flwos.py", ORDER], ["no file is named 'flwos.py'", "Did you mean 'flows.py'?"]),
        (["flows.py:chekout", ORDER], ["no workflow is named 'chekout'", "Did you mean 'checkout'"]),
        (["flows.py:charge", ORDER], ["'charge' in flows.py is no workflow", "@workflow"]),
        (["flows.py", ORDER], ["workflows; name one", "flows.py:checkout"]),
        (["nothing:checkout", ORDER], ["no module is named 'nothing'"]),
        ([".", ORDER], [". is a folder"]),
        ([":checkout", ORDER], ["is no target"]),
        (["flows.py:checkout"], ["needs an input of type Order", '\'{"id": 1, "item": "text"}\'']),
        (["flows.py:checkout", "{id: 1}"], ["not JSON", "line 1, column 2", "\n   ^"]),
        (["flows.py:checkout", "tea"], ["not JSON"]),
        (["flows.py:checkout", "@none.json"], ["no input file is named 'none.json'"]),
        (["flows.py:checkout", '{"id": "x"}'], ["field", "problem", "given", "id ", "'x'", "item ", "(nothing)"]),
        (["flows.py:messages", "1"], ["takes none"]),
        (["flows.py:chain", "2", "--on-conflict", "maybe"], ["--on-conflict", "reject"]),
        (["flows.py:chain", "2", "--store", "nowhere/x.db"], ["its folder does not exist", "mkdir -p nowhere"]),
    ],
)
def test_what_cannot_be_started_is_refused(cadenza: Project, arguments: list[str], says: list[str]) -> None:
    done = cadenza("run", *arguments)
    assert_refused(done, 5 if "--store" in arguments else 2, *says)
    assert not (cadenza.folder / "cadenza.db").exists()


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("x = 1\n", ["has no workflow"]),
        ("def broken(:\n", ["SyntaxError", "def broken(:"]),
        ("import nothing_like_it\n", ["No module named 'nothing_like_it'", "Is 'nothing_like_it' installed"]),
        ("def f():\n    return 1 / 0\nf()\n", ["ZeroDivisionError", "return 1 / 0", 'mine.py", line 3']),
        ("import sys\nsys.exit(3)\n", ["left the process", "__main__"]),
        ("from cadenza import *\n@workflow\ndef f(ctx): pass\n", ["a workflow is an 'async def' function"]),
    ],
)
def test_a_file_that_cannot_be_imported_shows_the_users_own_lines(
    cadenza: Project, source: str, says: list[str]
) -> None:
    (cadenza.folder / "mine.py").write_text(source)
    done = cadenza("run", "mine.py")
    assert done.code == 2
    for each in says:
        assert each in done.err
    assert "importlib" not in done.err
    assert "/cadenza/durable/" not in done.err


def test_a_file_named_as_a_loaded_module_is_refused(cadenza: Project) -> None:
    (cadenza.folder / "flows.py").rename(cadenza.folder / "json.py")
    assert_refused(cadenza("run", "json.py:chain", "1"), 2, "is the name of another module", "Rename the file")


@pytest.mark.parametrize(
    ("workflow", "says"),
    [
        ("misspelt", ["no agent is named 'clasifier'", "Did you mean 'classifier'?"]),
        pytest.param("spinning", ["did not yield for 10 s", "flows.py:"], marks=pytest.mark.slow),
    ],
)
def test_a_mistake_in_a_workflow_blocks_the_run(cadenza: Project, workflow: str, says: list[str]) -> None:
    assert_refused(cadenza("run", f"flows.py:{workflow}"), 4, "is blocked", "After the fix: cadenza resume", *says)


def test_an_oversized_result_fails_the_run_and_an_oversized_input_starts_none(cadenza: Project) -> None:
    assert_refused(cadenza("run", "flows.py:oversized"), 1, "9,000,002 bytes", "at most 8,000,000")
    (cadenza.folder / "huge.json").write_text(f'{{"id": 1, "item": "{"x" * 9_000_000}"}}')
    assert_refused(cadenza("run", "flows.py:checkout", "@huge.json"), 2, "at most 8,000,000")
    assert len(cadenza("runs", "--json").json) == 1


# --- runs -------------------------------------------------------------------------------------------------------------


def test_commands_on_runs_refuse_what_does_not_fit(cadenza: Project) -> None:
    cadenza("run", "flows.py:chain", "1", "--id", "month-7")
    for command in (["show"], ["resume"], ["cancel"], ["answer"], ["signal"]):
        extra = ["paid", "1"] if command == ["signal"] else []
        assert_refused(cadenza(*command, "month-9", *extra), 2, "no run is named 'month-9'", "cadenza runs")
    assert_refused(cadenza("cancel", "month-7"), 2, "is completed already")
    assert_refused(cadenza("signal", "month-7", "paid", "1"), 2, "is completed")
    assert_refused(cadenza("signal", "month-7", "not a name", "1"), 2, "is no name of a message")
    assert_refused(cadenza("answer", "month-7", "--approve"), 2, "has no open question")
    assert_refused(cadenza("runs", "--status", "waitng"), 2, "Did you mean 'waiting'")


# --- stores -----------------------------------------------------------------------------------------------------------


def newer(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.commit()
    connection.close()


def random_bytes(path: Path) -> None:
    path.write_bytes(os.urandom(50_000))


def torn(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4_096)
        file.write(b"\xaa" * 20_000)


def others(path: Path) -> None:
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (a)")
    connection.close()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (newer, "written by a newer Cadenza"),
        (random_bytes, "no SQLite database"),
        (torn, "damaged"),
        (others, "another program"),
        (Path.unlink, "there is no store"),
    ],
)
def test_a_store_that_cannot_be_used_is_refused_and_what_is_not_ours_is_kept(
    cadenza: Project, spoil: Callable[[Path], None], says: str
) -> None:
    cadenza("run", "flows.py:chain", "1")
    store = cadenza.folder / "cadenza.db"
    spoil(store)
    before = store.read_bytes() if store.exists() else None
    assert_refused(cadenza("runs"), 5, says)
    assert_refused(cadenza("show", "x"), 5, says)
    if before is not None:
        assert_refused(cadenza("run", "flows.py:chain", "1"), 5, says)
        assert cadenza("doctor").code == 1
        assert spoil is torn or store.read_bytes() == before  # sound pages of a damaged store may be written


def as_an_ordinary_user() -> None:
    """Root, too, must heed permissions."""
    libc = ctypes.CDLL(None)
    for capability in WRITES_ANYWHERE:
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


def test_a_store_that_may_not_be_written_is_refused(cadenza: Project) -> None:
    cadenza("run", "flows.py:chain", "1")
    cadenza.folder.chmod(0o555)
    (cadenza.folder / "cadenza.db").chmod(0o444)
    try:
        cadenza.before = as_an_ordinary_user
        done = cadenza("run", "flows.py:chain", "1")
    finally:
        cadenza.folder.chmod(0o755)
    assert_refused(done, 5, "read-only", "right to write")


def test_a_disk_that_fills_up_loses_nothing(cadenza: Project) -> None:
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    cadenza.before = small_files
    done = cadenza("run", "flows.py:chain", "500")
    cadenza.before = None
    assert done.code == 5
    assert "Nothing that was accepted is lost" in done.err
    assert f"cadenza resume {cadenza.run_id()}" in done.err
    done = cadenza("resume", cadenza.run_id())
    assert (done.code, done.out.strip()) == (0, "500")
    assert " replayed" in done.err
