"""`cadenza run` and `cadenza resume`: results, progress, parking, crashes, terminals."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.commands import Project, Terminal, ended, until


@pytest.fixture
def cadenza(tmp_path: Path) -> Project:
    return Project(tmp_path)


# --- results and inputs -----------------------------------------------------------------------------------------------


def test_the_result_alone_goes_to_standard_output(cadenza: Project) -> None:
    done = cadenza("run", "flows.py:chain", "3")
    assert (done.code, json.loads(done.out)) == (0, 3)
    assert "double#3" in done.err
    assert "completed" in done.err


@pytest.mark.parametrize(
    ("target", "text"), [("flows.py:chain", "2"), ("flows:chain", "@n.json"), ("./flows.py:chain", "-")]
)
def test_a_target_and_an_input_may_be_given_in_several_ways(cadenza: Project, target: str, text: str) -> None:
    (cadenza.folder / "n.json").write_text("2")
    done = cadenza("run", target, text, "--json", given="2")
    assert done.code == 0, done.err
    assert {"status": "completed", "result": 2, "workflow": "flows:chain"}.items() <= done.json.items()


def test_a_file_with_one_workflow_needs_no_name_and_a_package_keeps_its_own(cadenza: Project) -> None:
    package = cadenza.folder / "shop"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "names.py").write_text("NAME = 'Ada'\n")
    (package / "greet.py").write_text(
        "from cadenza import Context, workflow\nfrom .names import NAME\n\n"
        "@workflow\nasync def greet(ctx: Context) -> str:\n    return NAME\n"
    )
    done = cadenza("run", "shop/greet.py", "--json")
    assert done.code == 0, done.err
    assert (done.json["workflow"], done.json["result"]) == ("shop.greet:greet", "Ada")


def test_a_failed_run_shows_the_users_own_lines(cadenza: Project) -> None:
    done = cadenza("run", "flows.py:failing", "1")
    assert done.code == 1
    assert "KeyError: 'missing'" in done.err
    assert 'return {}["missing"]' in done.err
    assert "/cadenza/engine/" not in done.err
    assert "/cadenza/durable/" not in done.err
    assert cadenza("run", "flows.py:failing", "1", "--json").json["failure"]["type"] == "cadenza.errors:StepError"


def test_code_that_cannot_be_replayed_is_reported_unless_that_is_switched_off(cadenza: Project) -> None:
    warned = cadenza("run", "flows.py:unruly")
    assert warned.code == 0
    assert "is not deterministic" in warned.err
    assert "is not deterministic" not in cadenza("run", "flows.py:unruly", "--no-verify").err


def test_many_steps_are_summed_up_in_plain_output(cadenza: Project) -> None:
    done = cadenza("run", "flows.py:wide", "1500")
    assert done.code == 0
    assert len(done.err.splitlines()) < 150
    assert "1,500 done" in done.err


# --- people and messages ----------------------------------------------------------------------------------------------


def test_without_a_terminal_a_question_ends_the_command_and_the_answer_goes_on(cadenza: Project) -> None:
    done = cadenza("run", "flows.py:checkout", '{"id": 1, "item": "tea"}')
    run_id = cadenza.run_id()
    assert done.code == 3
    assert done.out == ""
    assert f"cadenza answer {run_id} --approve" in done.err
    assert f"cadenza resume {run_id}" in done.err
    assert cadenza("answer", run_id, "--approve", "--comment", "fine").code == 0
    done = cadenza("resume", run_id)
    assert (done.code, json.loads(done.out)) == (0, {"receipt": "receipt 1", "shipped": True, "comment": "fine"})
    assert len((cadenza.folder / "charged.log").read_text().splitlines()) == 1


def test_waiting_is_told_to_scripts(cadenza: Project) -> None:
    done = cadenza("run", "flows.py:survey", "--json")
    assert done.code == 3
    assert {each["title"] for each in done.json["questions"]} == {"Which colour?", "Mend it"}
    done = cadenza("run", "flows.py:messages", "--json")
    assert (done.code, done.json["messages"]) == (3, ["paid"])


def test_a_terminal_is_asked_at_once(cadenza: Project) -> None:
    with Terminal(cadenza, "run", "flows.py:survey") as terminal:
        terminal.until("Your choice")
        terminal.type("blue\n")
        terminal.until("one of red, green")
        terminal.type("2\n")
        terminal.until("new JSON")
        terminal.type('{"text": "Hello"}\n')
        assert terminal.end() == 0
        assert '"colour": "green"' in terminal.text
        assert '"text": "Hello"' in terminal.text


def test_a_question_may_be_left_for_later(cadenza: Project) -> None:
    with Terminal(cadenza, "run", "flows.py:checkout", '{"id": 1, "item": "tea"}') as terminal:
        terminal.until("Approve?")
        assert "tea" in terminal.text
        terminal.type("l\n")
        assert terminal.end() == 3
        assert "cadenza answer" in terminal.text


# --- parking and crashes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_lets_the_step_end_and_parks_the_run(cadenza: Project, number: signal.Signals) -> None:
    with cadenza.started("run", "flows.py:pauses", "[1.0, 0.0]") as process:
        cadenza.wait_for("began.log")
        process.send_signal(number)
        done = ended(process)
    run_id = cadenza.run_id()
    assert done.code == 130
    assert f"cadenza resume {run_id}" in done.err
    assert cadenza("runs", "--json").json[0]["status"] == "ready"
    done = cadenza("resume", run_id)
    assert done.code == 0
    assert "1 replayed" in done.err


@pytest.mark.slow
def test_a_thread_that_is_stuck_does_not_hold_the_process(cadenza: Project) -> None:
    with cadenza.started("run", "flows.py:hanging", "1") as process:
        cadenza.wait_for("began.log")
        process.send_signal(signal.SIGINT)
        done = ended(process)
    assert done.code == 130
    assert "Traceback" not in done.err
    assert cadenza("runs", "--json").json[0]["status"] == "ready"


def test_a_second_interrupt_stops_at_once_and_nothing_is_lost(cadenza: Project) -> None:
    with Terminal(cadenza, "run", "flows.py:hanging", "1") as terminal:
        cadenza.wait_for("began.log")
        terminal.press_control_c()
        terminal.until("Ctrl-C again")
        terminal.press_control_c()
        assert terminal.end() == 130
        assert "\x1b[?25h" in terminal.raw  # the cursor is back
    assert cadenza("runs", "--json").json[0]["stranded"] is True


@pytest.mark.sigkill
def test_a_killed_run_goes_on_where_it_was(cadenza: Project) -> None:
    with cadenza.started("run", "flows.py:pauses", "[0.0, 30.0]") as process:
        until(lambda: len(journal(cadenza)) >= 2, "the first step never ended")
        process.kill()
        process.wait()
    run_id = cadenza.run_id()
    assert "stranded" in cadenza("runs").out
    cadenza.edit("await asyncio.sleep(s)", "await asyncio.sleep(0)")
    done = cadenza("resume", run_id[:9])
    assert (done.code, done.out.strip()) == (0, "2")
    assert "1 replayed" in done.err


def journal(cadenza: Project) -> list[str]:
    done = cadenza("runs", "--json")
    if done.code or not done.json:
        return []
    return cadenza("show", done.json[0]["run_id"], "--events", "--json").out.splitlines()


def test_a_run_that_has_ended_is_only_reported(cadenza: Project) -> None:
    cadenza("run", "flows.py:chain", "2")
    (cadenza.folder / "flows.py").unlink()  # no code is needed any more
    done = cadenza("resume", cadenza.run_id())
    assert (done.code, done.out.strip()) == (0, "2")
    assert "before" in done.err


def test_a_run_of_another_folder_is_resumed_with_its_file(cadenza: Project) -> None:
    inner = cadenza.folder / "inner"
    inner.mkdir()
    (cadenza.folder / "flows.py").rename(inner / "flows.py")
    waits = cadenza("run", "inner/flows.py:checkout", '{"id": 1, "item": "tea"}')
    run_id = cadenza.run_id()
    assert f"cadenza resume {run_id} inner/flows.py" in waits.err
    refused = cadenza("resume", run_id)
    assert (refused.code, "no module 'flows'" in refused.err) == (2, True)
    cadenza("answer", run_id, "--reject")
    assert cadenza("resume", run_id, "inner/flows.py").code == 0


def test_a_changed_workflow_blocks_the_run_until_it_fits_again(cadenza: Project) -> None:
    cadenza("run", "flows.py:checkout", '{"id": 1, "item": "tea"}')
    run_id = cadenza.run_id()
    cadenza("answer", run_id, "--approve")
    cadenza.edit("receipt = await ctx.step(charge, order)", "receipt = await ctx.step(double, 1)")
    done = cadenza("resume", run_id)
    assert done.code == 4
    assert "expected:" in done.err
    assert "flows:charge" in done.err
    assert "flows:double" in done.err
    assert "blocked" in cadenza("show", run_id).out
    cadenza.edit("receipt = await ctx.step(double, 1)", "receipt = await ctx.step(charge, order)")
    assert cadenza("resume", run_id).code == 0


# --- business ids -----------------------------------------------------------------------------------------------------


def test_a_business_id_is_refused_joined_or_replaced(cadenza: Project) -> None:
    order = ("flows.py:checkout", '{"id": 1, "item": "tea"}', "--id", "order-1")
    cadenza("run", *order)
    first = cadenza.run_id()
    refused = cadenza("run", *order)
    assert (refused.code, first in refused.err, "--on-conflict join" in refused.err) == (2, True, True)
    joined = cadenza("run", *order, "--on-conflict", "join")
    assert (joined.code, cadenza.run_id()) == (3, first)
    cadenza("run", *order, "--on-conflict", "replace")
    rows = {row["run_id"]: row for row in cadenza("runs", "--json").json}
    assert len(rows) == 2
    assert (rows[first]["status"], rows[first]["business_id"]) == ("cancelled", "")
    assert cadenza("show", "order-1", "--json").json["run_id"] != first


# --- terminals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [70, 160])
def test_the_picture_of_thousands_of_steps_fits_the_terminal(cadenza: Project, columns: int) -> None:
    with Terminal(cadenza, "run", "flows.py:wide", "2000", columns=columns, lines=20) as terminal:
        assert terminal.end() == 0
        lines = terminal.text.splitlines()
        last = max(index for index, line in enumerate(lines) if line.startswith("wide "))
        assert "2,000 done" in terminal.text
        assert len(lines) - last < 20
        assert max(map(len, lines)) <= columns


def test_help_starts_without_heavy_libraries() -> None:
    script = """
import sys
sys.argv = ["cadenza", "--help"]
from cadenza.cli.main import invoke
code = invoke()
print([name for name in ("rich", "pydantic", "apsw") if name in sys.modules], code)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[] 0"
    assert "130  Ctrl-C" in done.stdout
