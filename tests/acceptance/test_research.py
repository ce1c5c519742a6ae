"""S5: research on 50 companies, with everything that can go wrong, and a real kill in the middle."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cadenza import Engine, EngineOptions
from cadenza.durable import events
from examples.research import web
from examples.research.companies import companies

ROOT = Path(__file__).parents[2]
LIMIT_S = 120
MAIN = "import sys; from examples.research.__main__ import main; sys.exit(main(sys.argv[1:]))"
NO_SCREEN = "import re; from examples.research import screening; screening.TO_MACHINES = re.compile('(?!)')\n"
NO_VALIDATOR = "from examples.research import reading; reading.well_formed = lambda said: None\n"


class Desk:
    """A folder, a site that counts outside of the command that is tested, and the command."""

    def __init__(self, folder: Path, *site: str) -> None:
        self.folder, self.log, self.out = folder, folder / "visits.log", folder / "research-report"
        port = free_port()
        self.env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
            "COLUMNS": "200",
            "CADENZA_MODEL": "",
            "RESEARCH_SITE": f"http://127.0.0.1:{port}",
        }
        served = ["-m", "examples.research.site", "--port", str(port), "--log", str(self.log), *site]
        self.site = self.started(served)
        assert self.site.stdout is not None
        assert self.site.stdout.readline().startswith("http://")

    def started(self, arguments: list[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *arguments], cwd=self.folder, env=self.env, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def command(self, *options: str, broken: str = "") -> subprocess.Popen[str]:
        """The command; ``broken`` is code that takes a guard away first."""
        return self.started(["-c", broken + MAIN, *options] if broken else ["-m", "examples.research", *options])

    def research(self, *options: str, broken: str = "") -> tuple[int, str, str]:
        """Exit code, output, errors."""
        process = self.command(*options, broken=broken)
        output, errors = process.communicate(timeout=LIMIT_S)
        return process.returncode, output, errors

    def close(self) -> None:
        self.site.terminate()
        self.site.communicate(timeout=LIMIT_S)

    @property
    def visits(self) -> Counter[str]:
        return Counter(self.log.read_text().splitlines())

    def report(self) -> dict[str, Any]:
        return json.loads((self.out / "report.json").read_text())


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Desk, tuple[int, str, str]]]:
    """Research that nobody disturbed, to its end."""
    desk = Desk(tmp_path_factory.mktemp("research"))
    yield desk, desk.research("--pick", "top")
    desk.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.close()


Done = tuple[Desk, tuple[int, str, str]]


def test_46_are_done_and_four_gaps_are_named(done: Done) -> None:
    desk, (code, output, errors) = done
    assert (code, errors) == (10, "")
    report = desk.report()
    assert len(report["companies"]) == 46
    reasons = {gap["company"]: gap["reason"] for gap in report["gaps"]}
    assert reasons == {
        web.COMPANIES[slug].name: f"/{source}/{slug} answered {status.value}: {status.phrase}"
        for slug, (source, status) in web.GONE.items()
    }
    assert all(name in output for name in reasons)


def test_every_fact_is_true_or_tabled_as_a_conflict(done: Done) -> None:
    report = done[0].report()
    truth = {each.name: each.facts() for each in companies()}
    conflicts = {(each["company"], each["field"]) for each in report["conflicts"]}
    assert conflicts == {(web.COMPANIES[slug].name, field) for slug, (field, _) in web.CONFLICTS.items()}
    for company in report["companies"]:
        for field, values in company["facts"].items():
            assert truth[company["name"]][field] in values
            assert len(values) == (2 if (company["name"], field) in conflicts else 1)
    page = (done[0].out / "report.html").read_text()
    assert "<h2>Conflicts</h2>" in page
    assert "Westmarch Quay (/profile/harrow-ceramics)" in page


def test_every_claim_has_a_source_whose_words_say_so(done: Done) -> None:
    desk = done[0]
    markdown = (desk.out / "report.md").read_text()
    for company in desk.report()["companies"]:
        for values in company["facts"].values():
            assert sum(map(len, values.values())) == 2  # both sources, whether they agree or not
            for value, sources in values.items():
                for source in sources:
                    assert value in source["quote"]
                    assert len(source["sha256"]) == 64
                    assert source["url"] in markdown


def test_three_malformed_answers_are_repaired_by_one_more_question_each(done: Done) -> None:
    desk = done[0]
    pages = [f"/register/{slug}" for slug in web.MALFORMED]
    assert desk.report()["repaired"] == pages
    assert {what: count for what, count in desk.visits.items() if what.endswith(" again")} == {
        f"READ {page} again": 1 for page in pages
    }


def test_without_the_validator_there_are_no_repairs(desk: Desk) -> None:
    assert desk.research("--pick", "top", broken=NO_VALIDATOR)[0] == 10
    assert desk.report()["repaired"] == []
    assert not [what for what in desk.visits if what.endswith(" again")]


def test_a_poisoned_page_is_flagged_and_changes_nothing(done: Done) -> None:
    desk = done[0]
    report = desk.report()
    assert report["flagged"] == [f"/profile/{web.POISONED}"]
    truth = web.COMPANIES[web.POISONED]
    (poisoned,) = [each for each in report["companies"] if each["name"] == truth.name]
    assert {field: list(values) for field, values in poisoned["facts"].items()} == {
        field: [value] for field, value in truth.facts().items()
    }
    assert poisoned["rank"] > 1
    for name in ("report.json", "report.md", "report.html"):
        text = (desk.out / name).read_text()
        assert "9999" not in text
        assert "ignore all" not in text


def test_without_the_screener_the_poison_would_be_believed(desk: Desk) -> None:
    assert desk.research("--pick", "top", broken=NO_SCREEN)[0] == 10
    report = desk.report()
    assert report["flagged"] == []
    assert {"company": web.COMPANIES[web.POISONED].name, "field": "revenue"} in report["conflicts"]


def test_bursts_of_429_are_waited_out(done: Done) -> None:
    visits = done[0].visits
    assert sum(count for what, count in visits.items() if what.startswith("BURST ")) >= 8
    pages = {what.removeprefix("BURST ") for what in visits if what.startswith("BURST ")}
    for page in pages:
        if page.rpartition("/")[2] not in web.GONE:
            assert visits[f"PAGE {page}"] == visits[f"BURST {page}"] + 1


def test_the_budget_is_warned_of_once_and_holds(done: Done) -> None:
    desk, (_, output, _) = done
    assert output.count("over 80% of the budget") == 1
    budget = desk.report()["budget"]
    assert 0.8 * budget["cap_usd"] < budget["spent_usd"] <= budget["cap_usd"]
    assert len([what for what in desk.visits if what.startswith("READ ")]) == 46 * 2 + 3


def test_what_the_budget_does_not_cover_is_not_done(desk: Desk) -> None:
    code, output, errors = desk.research("--budget", "0.2")
    assert code == 1
    assert "over 80% of the budget" in output
    assert "companies could not be researched" in errors
    assert not desk.out.exists()


def test_more_gaps_than_are_tolerated_end_it(tmp_path: Path) -> None:
    desk = Desk(tmp_path, "--more-gone")
    try:
        code, _, errors = desk.research()
    finally:
        desk.close()
    assert code == 1
    assert "7 of 50 companies could not be researched" in errors


@pytest.mark.sigkill
def test_killed_after_item_27_it_goes_on_and_repeats_nothing_that_was_finished(desk: Desk, done: Done) -> None:
    process = desk.command("--slow", "0.5")
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("27 of 50"):
            process.send_signal(signal.SIGKILL)
    process.communicate(timeout=LIMIT_S)
    assert process.returncode == -signal.SIGKILL
    finished = finished_companies(desk.folder / "cadenza.db")
    assert len(finished) >= 20  # a company is told as done a moment before that is on disk
    before = desk.visits
    code, output, errors = desk.research("--slow", "0.5", "--pick", "top")
    assert (code, errors) == (10, "")
    assert f"{len(finished)} companies were finished by an earlier process" in output
    again = [
        what for what, count in desk.visits.items() if count > before[what] and what.rpartition("/")[2] in finished
    ]
    assert [what for what in again if "/filing/" not in what] == []
    assert desk.visits["LIST /companies"] == 1
    for name in ("report.json", "report.md", "report.html"):
        assert (desk.out / name).read_bytes() == (done[0].out / name).read_bytes()


def finished_companies(store: Path) -> set[str]:
    """The slugs whose last step has its outcome in the journal."""

    async def read() -> set[str]:
        async with Engine.open(store, EngineOptions(worker=False)) as engine:
            (run,) = engine.runs()
            ended = [
                json.loads(event.value)
                for event in engine.journal(run.run_id)
                if isinstance(event, events.StepCompleted)
                and event.path.rpartition("/")[2].partition("#")[0] in ("verifier", "note_gap")
            ]
            return {each["company"]["slug"] for each in ended}

    return asyncio.run(read())


def test_the_analyst_is_waited_for_and_picks_ten(desk: Desk) -> None:
    code, output, _ = desk.research()
    assert code == 3
    assert "Which 10 of 46 companies" in output
    assert not desk.report()["deep_dives"]
    code, _, errors = desk.research("--pick", "Nowhere Ltd")
    assert code == 2
    assert "Nowhere Ltd" in errors
    (command,) = [line.split() for line in output.splitlines() if line.strip().startswith("cadenza answer")]
    names = [each["name"] for each in desk.report()["companies"]][20:30]
    answered = subprocess.run(
        [sys.executable, "-m", "cadenza", *command[1:4], "--value", json.dumps(names)],
        cwd=desk.folder, env=desk.env, capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    assert answered.returncode == 0, answered.stderr
    before = desk.visits
    code, output, _ = desk.research()
    assert code == 10
    dives = {dive["company"]["name"]: dive for dive in desk.report()["deep_dives"]}
    assert list(dives) == names
    gone = dives.pop(web.COMPANIES[web.FILING_GONE].name)
    assert gone["gap"] == f"/filing/{web.FILING_GONE} answered 404: Not Found"
    assert all(len(dive["years"]) == 3 and not dive["gap"] for dive in dives.values())
    assert {what for what in desk.visits if desk.visits[what] > before[what]} >= {
        f"PAGE /filing/{name.lower().replace(' ', '-')}" for name in names
    }


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--budget", "0"], "--budget is a positive number"),
        (["--model", "olama:llama3.2"], "'olama'"),
    ],
)
def test_bad_input_gives_one_clear_message(desk: Desk, options: list[str], says: str) -> None:
    code, _, errors = desk.research(*options)
    assert code == 2
    assert says in errors
    assert "Traceback" not in errors
    assert not (desk.folder / "cadenza.db").exists()


def test_every_choice_of_a_reader_can_be_explained(done: Done) -> None:
    desk = done[0]
    (run_id,) = re.findall(r"^Run (\w+),", done[1][1], re.MULTILINE)
    explained = subprocess.run(
        [sys.executable, "-m", "cadenza", "explain", run_id],
        cwd=desk.folder, env=desk.env, capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    assert explained.returncode == 0, explained.stderr
    assert explained.stdout.count("table_reader@1/") == 46 * 2
    assert explained.stdout.count("prose_reader@1/") == len(web.PROSE)
