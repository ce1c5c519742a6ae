"""The licence review as a person runs it: a command that is killed, goes on, waits, and is answered."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest

from cadenza import Engine, EngineOptions

ROOT = Path(__file__).parents[2]
PACKAGES = 24
LIMIT_S = 60


class Desk:
    """A folder with an environment to review, and the command to do it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.site = folder / "environment" / "lib" / "python3.11" / "site-packages"
        text = next(file for file in distribution("pytest").files or [] if file.name == "LICENSE").read_text()
        for number in range(PACKAGES):
            self.install(f"package{number:02}", "License-Expression: MIT", text)
        self.install("weak", "License-Expression: MPL-2.0")
        self.install("vague", "License: BSD")

    def install(self, name: str, metadata: str, text: str = "") -> None:
        folder = self.site / f"{name}-1.0.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: 1.0\n{metadata}\n")
        if text:
            (folder / "LICENSE").write_text(text, encoding="utf-8")

    def command(self, *options: str) -> subprocess.Popen[str]:
        given = ["--path", str(self.folder / "environment"), *options]
        return subprocess.Popen(
            [sys.executable, "-m", "examples.licence_review", *given],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", "CADENZA_MODEL": ""},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def review(self, *options: str) -> tuple[int, str, str]:
        """Exit code, output, errors."""
        process = self.command(*options)
        output, errors = process.communicate(timeout=LIMIT_S)
        return process.returncode, output, errors

    def killed(self, *options: str, after: str) -> None:
        """Run the command, and SIGKILL it when it has printed ``after``."""
        process = self.command(*options)
        assert process.stdout is not None
        for line in process.stdout:
            if after in line:
                process.send_signal(signal.SIGKILL)
        process.communicate(timeout=LIMIT_S)
        assert process.returncode == -signal.SIGKILL

    def report(self) -> dict[str, Any]:
        return json.loads((self.folder / "licence-review" / "report.json").read_text())

    def package(self, name: str) -> dict[str, Any]:
        return next(package for package in self.report()["packages"] if package["name"] == name)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def finished_packages(store: Path) -> int:
    """How many packages the journal holds a policy decision for."""

    async def count() -> int:
        async with Engine.open(store, EngineOptions(worker=False)) as engine:
            (run,) = engine.runs()
            paths = [str(getattr(event, "path", "")) for event in engine.journal(run.run_id)]
            return len({path for path in paths if "/policy_check#" in path})

    return asyncio.run(count())


def signatures(package: dict[str, Any]) -> set[str]:
    evidence = package["evidence"]
    return {evidence[agent]["done_by"] for agent in ("metadata_classifier", "text_classifier", "policy_check")}


@pytest.mark.sigkill
def test_a_killed_review_goes_on_and_says_how_much_was_replayed(desk: Desk) -> None:
    desk.killed("--yes", "--slow", "0.4", after="10 of 26")
    desk.killed("--yes", "--slow", "0.4", after="20 of 26")
    finished = finished_packages(desk.folder / "cadenza.db")
    code, output, errors = desk.review("--yes", "--slow", "0.4")
    assert (code, errors) == (0, "")
    report = desk.report()
    replayed = [package for package in report["packages"] if package["origin"] == "replayed"]
    assert len(replayed) == finished >= 10
    assert f"{finished} of 26 packages were finished by an earlier process and replayed" in output
    assert all(report["process"] not in signatures(package) for package in replayed)
    assert len(set().union(*map(signatures, replayed))) >= 2
    assert len(report["packages"]) == sum(report["origins"].values()) == PACKAGES + 2


def test_without_a_terminal_it_ends_with_what_waits_and_the_answers_finish_it(desk: Desk) -> None:
    code, output, _ = desk.review()
    assert code == 3
    assert "weak: allow" in output
    assert "vague: allow" in output
    assert not (desk.folder / "licence-review" / "report.json").exists()
    answers = desk.folder / "answers.yaml"
    answers.write_text("Weak: forbid\nvague: allow\nabsent: allow\n")
    code, output, _ = desk.review("--answer-file", "answers.yaml")
    assert code == 10
    assert "nobody asked for" in output
    assert "absent" in output
    assert "26 of 26 packages were finished by an earlier process" in output
    assert (desk.package("weak")["allowed"], desk.package("vague")["allowed"]) == (False, True)
    assert desk.package("weak")["decided_by"] == "by answers.yaml"


def test_an_answer_file_may_leave_some_for_later(desk: Desk) -> None:
    (desk.folder / "answers.yaml").write_text("weak: allow\n")
    code, output, _ = desk.review("--answer-file", "answers.yaml")
    assert code == 3
    assert "weak: allow" not in output
    assert "vague: allow" in output
    assert desk.review("--yes")[0] == 0
    assert desk.package("vague")["decided_by"] == "by --yes"
    assert desk.package("weak")["decided_by"] == "by answers.yaml"


def test_a_finished_review_starts_anew(desk: Desk) -> None:
    assert desk.review("--yes")[0] == 0
    first = desk.report()
    desk.install("late", "License-Expression: AGPL-3.0-only")
    code, output, _ = desk.review("--yes")
    assert code == 10
    assert desk.report()["run_id"] != first["run_id"]
    assert "none was replayed" in output
    assert desk.package("late")["decided_by"].startswith("policy, line")


def test_fresh_drops_an_unfinished_review(desk: Desk) -> None:
    assert desk.review()[0] == 3
    code, output, _ = desk.review("--yes", "--fresh")
    assert code == 0
    assert "none was replayed" in output


def test_the_evidence_of_every_decision_is_in_the_report(desk: Desk) -> None:
    assert desk.review("--yes")[0] == 0
    evidence = desk.package("package00")["evidence"]
    assert {document["kind"] for document in evidence["documents"]} == {"metadata", "licence"}
    assert all(len(document["sha256"]) == 64 for document in evidence["documents"])
    assert evidence["text_classifier"]["findings"][0]["excerpt"]
    assert evidence["conclusion"]["rule"] == "agreement"
    assert evidence["policy_check"]["line"] > 0
    for name in ("report.html", "report.md"):
        text = (desk.folder / "licence-review" / name).read_text()
        assert evidence["documents"][0]["sha256"] in text


def test_what_a_package_says_cannot_change_the_report_page(desk: Desk) -> None:
    desk.install("hostile", "License: <script>alert(1)</script> | **bold**\nVersion: 1.0")
    desk.review("--yes")
    for name in ("report.html", "report.md"):
        assert "<script>" not in (desk.folder / "licence-review" / name).read_text()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--path", "nowhere"], "No Python environment"),
        (["--path", "."], "no installed distribution"),
        (["--policy", "nowhere.yaml"], "nowhere.yaml:1: cannot be read"),
        (["--answer-file", "answers.yaml"], "answers.yaml:2: weak: 'perhaps' is no answer"),
        (["--out", "answers.yaml"], "--out answers.yaml cannot be used"),
    ],
)
def test_bad_input_gives_one_clear_message(desk: Desk, options: list[str], says: str) -> None:
    (desk.folder / "answers.yaml").write_text("vague: allow\nweak: perhaps\n")
    code, _, errors = desk.review(*options)
    assert code == 2
    assert says in errors
    assert "Traceback" not in errors
    assert not (desk.folder / "cadenza.db").exists()
