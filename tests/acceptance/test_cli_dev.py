"""`cadenza dev`: a run goes on, or begins anew, at every save. And what the shell completes."""

import subprocess
from pathlib import Path

import pytest

from tests.acceptance.commands import CADENZA, Project, Terminal


@pytest.fixture
def cadenza(tmp_path: Path) -> Project:
    return Project(tmp_path)


def saved(terminal: Terminal, cadenza: Project, old: str, new: str) -> None:
    terminal.raw = ""
    cadenza.edit(old, new)


@pytest.mark.slow
def test_what_waits_goes_on_with_the_new_code_and_a_mistake_is_told(cadenza: Project) -> None:
    with Terminal(cadenza, "dev", "flows.py:checkout", '{"id": 1, "item": "tea"}') as terminal:
        terminal.until("Approve?")
        saved(terminal, cadenza, '"shipped": answer.approved', '"sent": answer.approvd')
        terminal.until("Saved: starting again")
        terminal.until("Approve?")
        saved(terminal, cadenza, "async def checkout(", "async def checkout((")
        terminal.until("SyntaxError")
        terminal.until("Waiting for a change")
        saved(terminal, cadenza, "async def checkout((", "async def checkout(")
        terminal.until("Approve?")
        saved(terminal, cadenza, "answer.approvd", "answer.approved")
        terminal.until("Approve?")
        terminal.type("y\n\n")
        terminal.until('"sent": true')
        terminal.until("Waiting for a change")
        assert len((cadenza.folder / "charged.log").read_text().splitlines()) == 1
        saved(terminal, cadenza, '"sent":', '"done":')
        terminal.until("Approve?")  # the run had ended: this is another
        assert len((cadenza.folder / "charged.log").read_text().splitlines()) == 2
        terminal.press_control_c()
        assert terminal.end() == 130
    assert [row["status"] for row in cadenza("runs", "--json").json] == ["waiting", "completed"]


def test_an_edit_of_what_was_done_begins_a_new_run(cadenza: Project) -> None:
    with Terminal(cadenza, "dev", "flows.py:checkout", '{"id": 1, "item": "tea"}') as terminal:
        terminal.until("Approve?")
        saved(terminal, cadenza, "receipt = await ctx.step(charge, order)", "receipt = await ctx.step(double, 1)")
        terminal.until("Saved: starting again")
        terminal.until("would block at")
        terminal.until("Approve?")
        terminal.type("y\n\n")  # it is replayed when it goes on
        terminal.until("It stays blocked; a new run begins")
        terminal.until("Approve?")
        terminal.press_control_c()
        assert terminal.end() == 130


def test_what_cannot_be_read_again_is_refused(cadenza: Project) -> None:
    assert "standard input" in cadenza("dev", "flows.py:chain", "-").err
    assert "Name a file" in cadenza("dev", "flows.py:chain", "1", "--store", ":memory:").err


# --- completion -------------------------------------------------------------------------------------------------------


def completed(cadenza: Project, *words: str) -> list[str]:
    """What bash would offer for the last word."""
    line = {"COMP_WORDS": " ".join(["cadenza", *words]), "COMP_CWORD": str(len(words))}
    env = cadenza.env | line | {"_CADENZA_COMPLETE": "complete_bash"}
    done = subprocess.run(CADENZA, cwd=cadenza.folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.slow
def test_commands_runs_and_workflows_are_completed(cadenza: Project) -> None:
    assert completed(cadenza, "show", "") == []  # there is no store
    assert cadenza("run", "flows.py:chain", "1", "--id", "order-7").code == 0
    run_id = cadenza.run_id()
    assert completed(cadenza, "res")[:1] == ["resume"]
    for command in ("show", "resume", "answer", "cancel"):
        assert completed(cadenza, command, run_id[:6]) == [run_id]
    assert completed(cadenza, "show", "ord") == ["order-7"]
    assert completed(cadenza, "run", "fl") == ["flows.py"]
    assert completed(cadenza, "run", "flows.py:ch") == ["flows.py:checkout", "flows.py:chain"]
    (cadenza.folder / "broken.db").write_text("no store")
    assert completed(cadenza, "show", "--store", "broken.db", "x") == []


def test_completion_is_installed_for_a_shell(cadenza: Project) -> None:
    home = cadenza.folder / "home"
    home.mkdir()
    switch = {"HOME": str(home), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = cadenza("--install-completion", "bash", **switch)
    assert done.code == 0, done.err
    written = "".join(path.read_text() for path in home.rglob("*") if path.is_file())
    assert "_CADENZA_COMPLETE=complete_bash" in written
    assert "cadenza" in cadenza("--show-completion", "zsh", **switch).out
