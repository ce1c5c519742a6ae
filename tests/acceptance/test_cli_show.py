"""`cadenza runs` and `cadenza show`: lists, trees, timelines, events, JSON and the page."""

import json
from html.parser import HTMLParser

import pytest

from cadenza.cli.axis import Axis
from tests.acceptance.commands import Project


@pytest.fixture(scope="module")
def cadenza(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """One project whose store holds a run of each kind; these tests only read."""
    made = Project(tmp_path_factory.mktemp("shown"))
    made("run", "flows.py:wide", "60", "--id", "wide")
    made("run", "flows.py:failing", "1", "--id", "failing")
    made("run", "flows.py:asks_child", "--id", "child")
    made("run", "flows.py:checkout", '{"id": 1, "item": "</pre><script>alert(1)</script>\\u001b[2J"}', "--id", "nasty")
    made("answer", "nasty", "--approve", "--comment", "<img src=x onerror=alert(2)>\x1b]0;x", "--by", '"Ada"')
    made("resume", "nasty")
    return made


def test_runs_are_filtered_and_children_hidden(cadenza: Project) -> None:
    assert [row["business_id"] for row in cadenza("runs", "--json").json] == ["nasty", "child", "failing", "wide"]
    assert len(cadenza("runs", "--json", "--children").json) == 5
    failed = cadenza("runs", "--status", "failed", "--status", "waiting", "--json").json
    assert [row["business_id"] for row in failed] == ["child", "failing"]
    assert [row["business_id"] for row in cadenza("runs", "--workflow", "wid", "--json").json] == ["wide"]
    limited = cadenza("runs", "--limit", "1")
    assert ("nasty" in limited.out, "older" in limited.err) == (True, True)


@pytest.mark.parametrize("columns", [70, 100, 200])
def test_lists_fit_the_terminal(cadenza: Project, columns: int) -> None:
    for command in (["runs"], ["show", "wide"], ["show", "failing", "--timeline"], ["show", "child", "--events"]):
        done = cadenza(*command, COLUMNS=str(columns))
        lines = done.out.partition("\nresult")[0].partition("\nfailure")[0].splitlines()
        assert done.code == 0
        assert max(map(len, lines)) <= columns


def test_the_tree_sums_up_what_went_well_and_shows_the_rest(cadenza: Project) -> None:
    tree = cadenza("show", "wide").out
    assert "b1/classifier#1" in tree
    assert "55 more that completed" in tree
    assert "b60/classifier#1" in cadenza("show", "wide", "--all").out
    failed = cadenza("show", "failing").out
    assert "✗ broken#1  KeyError: 'missing'" in failed
    child = cadenza("show", "child")
    assert "@run:survey#1" in child.out
    assert "Which colour?" in child.out
    assert "--choice red   (or green)" in child.err


def test_what_the_journal_holds_cannot_command_the_terminal(cadenza: Project) -> None:
    for option in ([], ["--timeline"], ["--events"], ["--all"]):
        done = cadenza("show", "nasty", *option, TERM="xterm", FORCE_COLOR="")
        assert "\x1b[2J" not in done.out + done.err
        assert "\x1b]0" not in done.out + done.err
    assert "<img src=x" in cadenza("show", "nasty").out


def test_events_and_json_hold_everything(cadenza: Project) -> None:
    kinds = [json.loads(line)["type"] for line in cadenza("show", "nasty", "--events", "--json").out.splitlines()]
    assert [kinds[0], kinds[-1]] == ["run_started", "run_completed"]
    assert {"step_completed", "task_opened", "parked", "task_answered"} <= set(kinds)
    shown = cadenza("show", "nasty", "--json").json
    steps = {step["path"]: step for step in shown["generations"][0]["steps"]}
    assert steps["charge#1"]["value"] == "receipt 1"
    assert steps["@ask#1"]["value"]["by"] == '"Ada"'
    assert shown["input"]["item"].startswith("</pre>")
    assert shown["result"]["shipped"] is True
    child = cadenza("show", "child", "--json").json
    assert [each["workflow"] for each in child["children"]] == ["flows:survey"]


# --- the page ---------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Tags with their attributes, and the text outside of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self._skipped = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._skipped = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._skipped = False

    def handle_data(self, data: str) -> None:
        if not self._skipped:
            self.words += data


def page(cadenza: Project, run: str) -> tuple[str, Page]:
    done = cadenza("show", run, "--html", f"{run}.html")
    assert done.code == 0, done.err
    text = (cadenza.folder / f"{run}.html").read_text(encoding="utf-8")
    return text, Page(text)


def test_the_page_needs_nothing_from_elsewhere(cadenza: Project) -> None:
    text, parsed = page(cadenza, "wide")
    assert not [tag for tag, values in parsed.tags if "src" in values or "href" in values or tag in ("link", "iframe")]
    assert "http" not in text.replace("http-equiv", "").replace('xmlns="http://www.w3.org', "")
    assert "@import" not in text
    assert "url(" not in text
    policy = next(values["content"] for tag, values in parsed.tags if values.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert sum(tag == "script" for tag, _ in parsed.tags) == 1


def test_the_page_escapes_what_the_journal_holds(cadenza: Project) -> None:
    text, parsed = page(cadenza, "nasty")
    assert "<script>alert" not in text
    assert "<img" not in text
    assert sum(tag == "script" for tag, _ in parsed.tags) == 1
    assert "</pre><script>alert(1)</script>" in parsed.words
    assert "<img src=x onerror=alert(2)>" in parsed.words
    assert "\x1b" not in text
    assert not [values for _, values in parsed.tags if any(name.startswith("on") for name in values)]


def test_the_page_shows_the_tree_the_failure_and_the_questions(cadenza: Project) -> None:
    _, wide = page(cadenza, "wide")
    assert sum(values.get("data-state") == "completed" for _, values in wide.tags) == 60
    assert sum("bar s-completed" in (values.get("class") or "") for _, values in wide.tags) == 60
    _, failing = page(cadenza, "failing")
    assert 'return {}["missing"]' in failing.words
    assert "Failed" in failing.words
    _, child = page(cadenza, "child")
    assert "Waits for a person" in child.words
    assert "cadenza answer" in child.words


def test_a_page_that_cannot_be_written_is_refused(cadenza: Project) -> None:
    done = cadenza("show", "wide", "--html", "nowhere/page.html")
    assert (done.code, "cannot be written" in done.err) == (2, True)


# --- the axis ---------------------------------------------------------------------------------------------------------


def test_the_axis_shortens_idle_time_and_keeps_order() -> None:
    day = 86_400_000_000
    axis = Axis(0, day + 2_000_000, [(0, 1_000_000), (day, day + 2_000_000)])
    times = [0, 500_000, 1_000_000, day // 2, day, day + 1_000_000, day + 2_000_000]
    places = [axis.place(time) for time in times]
    assert places == sorted(places)
    assert (places[0], round(places[-1], 9)) == (0.0, 1.0)
    assert [gap.microseconds for gap in axis.gaps] == [day - 1_000_000]
    assert places[4] - places[2] < 0.1
    assert [abs(axis.time(place) - time) <= day // 1000 for place, time in zip(places, times, strict=True)] == [
        True
    ] * 7


@pytest.mark.parametrize("busy", [[], [(5, 5)], [(0, 10)], [(-5, 20), (3, 4)]])
def test_the_axis_takes_any_spans(busy: list[tuple[int, int]]) -> None:
    axis = Axis(0, 10, busy)
    assert [axis.place(-1), round(axis.place(99), 9)] == [0.0, 1.0]
