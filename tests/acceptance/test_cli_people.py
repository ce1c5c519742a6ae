"""`cadenza answer`, `signal`, `cancel`, `worker`, `init`, `check` and `doctor`."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.commands import Project, Terminal, ended, until

ORDER = '{"id": 1, "item": "tea"}'


@pytest.fixture
def cadenza(tmp_path: Path) -> Project:
    return Project(tmp_path)


# --- answer -----------------------------------------------------------------------------------------------------------


def test_open_questions_are_listed_and_answered_by_path(cadenza: Project) -> None:
    cadenza("run", "flows.py:asks_child")
    parent = next(row["run_id"] for row in cadenza("runs", "--json").json)
    listed = cadenza("answer", "--list", "--json").json
    assert [each["kind"] for each in listed] == ["choose", "edit"]
    assert all(each["run_id"].startswith(f"{parent}.") for each in listed)  # a child's questions are its parent's too
    ambiguous = cadenza("answer", parent, "--choice", "red")
    assert ambiguous.code == 2
    assert "2 questions are open; say which" in ambiguous.err
    colour, words = (each["path"] for each in listed)
    refused = cadenza("answer", parent, colour, "--choice", "blue")
    assert (refused.code, "one of red, green" in refused.err) == (2, True)
    assert cadenza("answer", parent, colour, "--choice", "red", "--by", "Ada").code == 0
    assert cadenza("answer", parent, words, "--value", '{"text": "Hello"}').code == 0
    done = cadenza("resume", parent)
    assert json.loads(done.out) == {"colour": "red", "text": {"text": "Hello"}, "by": "Ada"}


def test_a_second_answer_is_refused_before_and_after_the_first_was_taken(cadenza: Project) -> None:
    cadenza("run", "flows.py:checkout", ORDER)
    run_id = cadenza.run_id()
    assert "No worker has taken the run up" in cadenza("answer", run_id, "--reject", "--by", "Ada").err
    second = cadenza("answer", run_id, "--approve")
    assert (second.code, "was answered already" in second.err) == (2, True)
    assert '"shipped": false' in cadenza("resume", run_id).out
    third = cadenza("answer", run_id, "--approve")
    assert (third.code, "answered already: rejected, by Ada" in third.err) == (2, True)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--comment", "why not"], "a comment alone is no answer"),
        (["--approve", "--choice", "x"], "go with neither"),
        (["--value", "{x"], "not JSON"),
        ([], "no terminal to ask at"),
    ],
)
def test_an_answer_that_makes_no_sense_is_refused(cadenza: Project, options: list[str], says: str) -> None:
    cadenza("run", "flows.py:checkout", ORDER)
    done = cadenza("answer", cadenza.run_id(), *options)
    assert (done.code, says in done.err) == (2, True), done.err
    assert len(cadenza("answer", "--list", "--json").json) == 1


def test_answer_asks_at_a_terminal(cadenza: Project) -> None:
    cadenza("run", "flows.py:checkout", ORDER)
    with Terminal(cadenza, "answer", cadenza.run_id()) as terminal:
        terminal.until("Approve?")
        terminal.type("n\n")
        terminal.until("Why not?")
        terminal.type("too late\n")
        assert terminal.end() == 0
    assert '"comment": "too late"' in cadenza("resume", cadenza.run_id()).out


# --- signal and cancel ------------------------------------------------------------------------------------------------


def test_a_message_with_the_same_key_is_sent_once(cadenza: Project) -> None:
    waits = cadenza("run", "flows.py:messages")
    run_id = cadenza.run_id()
    assert (waits.code, f"cadenza signal {run_id} paid JSON" in waits.err) == (3, True)
    assert cadenza("signal", run_id, "paid", "17", "--key", "k").code == 0
    assert cadenza("signal", run_id, "paid", "18", "--key", "k").code == 0
    assert cadenza("resume", run_id).out.strip() == "17"


def test_a_cancelled_run_cleans_up_when_it_goes_on_and_a_forced_one_ends_at_once(cadenza: Project) -> None:
    cadenza("run", "flows.py:checkout", ORDER)
    run_id = cadenza.run_id()
    assert cadenza("cancel", run_id, "--reason", "no longer wanted").code == 0
    done = cadenza("resume", run_id)
    assert (done.code, "no longer wanted" in done.err) == (1, True)
    cadenza("run", "flows.py:checkout", ORDER)
    run_id = cadenza.run_id()
    assert "nothing was undone" in cadenza("cancel", run_id, "--force").err
    assert cadenza("runs", "--json", "--limit", "1").json[0]["status"] == "cancelled"
    assert "is cancelled already" in cadenza("cancel", run_id, "--force").err


# --- worker -----------------------------------------------------------------------------------------------------------


def test_a_worker_runs_what_is_ready_and_drains_on_sigterm(cadenza: Project) -> None:
    cadenza("run", "flows.py:checkout", ORDER)
    run_id = cadenza.run_id()
    with cadenza.started("worker", "flows.py") as worker:
        until(lambda: cadenza("doctor", "--quick").out.count("1 alive") == 1, "the worker never came")
        answered = cadenza("answer", run_id, "--approve")
        assert "Go on with" not in answered.err
        until(lambda: cadenza("runs", "--json").json[0]["status"] == "completed", "the worker did nothing")
        worker.send_signal(signal.SIGTERM)
        done = ended(worker)
    assert done.code == 0
    assert f"{run_id}  ✓ completed  checkout" in done.err
    assert "Drained" in done.err


def test_a_worker_that_starts_gives_blocked_runs_another_try_and_warns_of_what_it_does_not_know(
    cadenza: Project,
) -> None:
    cadenza("run", "flows.py:misspelt")
    assert cadenza("doctor", "--quick").out.count("blocked runs") == 1
    cadenza.edit("clasifier", "classifier")
    cadenza("run", "flows.py:messages")
    (cadenza.folder / "other.py").write_text((cadenza.folder / "flows.py").read_text())
    with cadenza.started("worker", "flows.py") as worker:
        until(lambda: len(cadenza("runs", "--json", "--status", "completed").json) == 1, "it was not tried again")
        worker.send_signal(signal.SIGINT)
        assert ended(worker).code == 0
    with cadenza.started("worker", "other.py") as worker:
        assert worker.stderr is not None
        assert worker.stderr.readline().startswith("Worker ")
        assert "does not know flows:messages" in worker.stderr.readline()


# --- init, check, doctor ----------------------------------------------------------------------------------------------


def test_init_makes_a_project_that_runs_and_overwrites_nothing(cadenza: Project) -> None:
    made = cadenza("init", "my project")
    assert made.code == 0
    assert "cd 'my project'" in made.out
    project = Project(cadenza.folder / "my project")
    (project.folder / "flows.py").unlink()
    assert project("run", "workflows.py:triage", "@ticket.json").code == 3
    assert project("answer", project.run_id(), "--approve").code == 0
    done = project("resume", project.run_id())
    assert (project.folder / json.loads(done.out)["sent"]).exists()
    assert project("check").code == 0
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    tested = subprocess.run(command, cwd=project.folder, env=project.env, capture_output=True, text=True, check=False)
    assert "3 passed" in tested.stdout, tested.stdout + tested.stderr
    before = {file: file.read_bytes() for file in project.folder.iterdir() if file.is_file()}
    refused = cadenza("init", "my project")
    assert (refused.code, "would be overwritten" in refused.err) == (2, True)
    assert before == {file: file.read_bytes() for file in project.folder.iterdir() if file.is_file()}


def test_check_fails_on_errors_and_reads_folders_without_importing(cadenza: Project) -> None:
    (cadenza.folder / "flows.py").unlink()
    good = "from cadenza import *\n@workflow\nasync def a(ctx: Context) -> int:\n    return 1\n"
    bad = "import time\nraise SystemExit\n" + good.replace("return 1", "return int(time.time())")
    (cadenza.folder / "good.py").write_text(good)
    assert cadenza("check").code == 0
    for folder in (".venv", "__pycache__", "deep"):
        (cadenza.folder / folder).mkdir()
        (cadenza.folder / folder / "bad.py").write_text(bad)
    found = cadenza("check", "--json")
    assert found.code == 1
    assert [(each["file"], each["line"]) for each in found.json] == [("deep/bad.py", 6)]
    shown = cadenza("check", "good.py", "deep")
    assert (shown.code, shown.out.startswith("deep/bad.py:6:")) == (1, True)
    assert cadenza("check", "none.py").code == 2


def test_doctor_looks_at_the_machine_and_the_store(cadenza: Project) -> None:
    done = cadenza("doctor", "--json")
    assert done.code == 0, done.out
    states = {each["check"]: each["state"] for each in done.json}
    assert {"Python", "SQLite", "folder", "write-ahead log", "fsync", "file locks", "store"} <= states.keys()
    assert "problem" not in states.values()
    assert not (cadenza.folder / "cadenza.db").exists()
    cadenza("run", "flows.py:chain", "1")
    states = {each["check"]: each["state"] for each in cadenza("doctor", "--json").json}
    assert (states["integrity"], states["workers"], states["blocked runs"], states["clock"]) == ("ok",) * 4
    assert sorted(each.name for each in cadenza.folder.iterdir() if each.name.startswith(".cadenza")) == []
