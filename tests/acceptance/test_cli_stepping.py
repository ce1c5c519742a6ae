"""`cadenza run --step` and `--break`, at a real terminal."""

from pathlib import Path

import pytest

from tests.acceptance.commands import Project, Terminal


@pytest.fixture
def cadenza(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_each_step_is_shown_with_its_input_and_waits_for_a_key(cadenza: Project) -> None:
    with Terminal(cadenza, "run", "flows.py:chain", "2", "--step") as terminal:
        terminal.until("[n]ext")
        assert "▪ double#1" in terminal.text
        assert "n = 2" in terminal.text
        terminal.type("i\n")
        terminal.until("[n]ext")
        assert "waits for: double#1" in terminal.text
        assert "1  RunStarted" in terminal.text
        assert "StepCompleted" not in terminal.text
        terminal.type("x\n")
        terminal.until("none of n, c, i, q")
        terminal.type("n\n")
        terminal.until("▪ double#2")
        terminal.type("i\n")
        terminal.until("StepCompleted double#1")
        terminal.type("c\n")
        assert terminal.end() == 0
        assert "completed" in terminal.text


def test_a_breakpoint_stops_at_its_step_only_and_quitting_parks_the_run(cadenza: Project) -> None:
    with Terminal(cadenza, "run", "flows.py:checkout", '{"id": 1, "item": "tea"}', "--break", "charge") as terminal:
        terminal.until("[n]ext")
        assert "▪ charge#1" in terminal.text
        assert '"item": "tea"' in terminal.text
        terminal.type("q\n")
        assert terminal.end() == 130
    assert not (cadenza.folder / "charged.log").exists()
    run_id = cadenza.run_id()
    assert cadenza("runs", "--json").json[0]["status"] == "ready"
    with Terminal(cadenza, "resume", run_id, "--step") as terminal:
        terminal.until("▪ charge#1")
        terminal.type("\n")
        terminal.until("Approve?")
        terminal.type("y\n\n")
        assert terminal.end() == 0
    assert len((cadenza.folder / "charged.log").read_text().splitlines()) == 1


def test_control_c_at_the_prompt_parks_the_run(cadenza: Project) -> None:
    with Terminal(cadenza, "run", "flows.py:wide", "20", "--step") as terminal:
        terminal.until("[n]ext")
        terminal.press_control_c()
        assert terminal.end() == 130
    assert cadenza("resume", cadenza.run_id()).code == 0


def test_a_breakpoint_that_nothing_meets_is_mentioned(cadenza: Project) -> None:
    with Terminal(cadenza, "run", "flows.py:chain", "2", "--break", "dubble") as terminal:
        assert terminal.end() == 0
        assert "No step 'dubble' was called here" in terminal.text


@pytest.mark.parametrize("flag", [("--step",), ("--break", "double")])
def test_without_a_terminal_nothing_is_started(cadenza: Project, flag: tuple[str, ...]) -> None:
    done = cadenza("run", "flows.py:chain", "2", *flag)
    assert (done.code, "there is none here. Nothing was started." in done.err) == (2, True)
    assert not (cadenza.folder / "cadenza.db").exists()
