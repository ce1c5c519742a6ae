"""``cadenza agents`` as people use it: real processes, narrow and wide terminals, and mistakes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.commands import ESCAPES, Project, Terminal, until
from tests.acceptance.http_world import Answered, World, serving
from tests.acceptance.test_remote_cards import card_of, serve

AGENTS = '''
from dataclasses import dataclass
from cadenza import Context, HttpAgent, HumanAgent, Skill, agent, registry, workflow
import os


@dataclass
class Company:
    name: str
    country: str = "DE"


@agent(
    skills=[Skill("research", "Finds facts about companies.", ("web", "finance"), ("Who owns ACME?",))],
    placement=("eu", "cloud"), data_classes=("restricted",), price_usd=0.002, latency_s=1.5, concurrency=4,
    requests_per_minute=600, owner="research team", purpose="Due diligence",
)
def researcher(company: Company) -> dict[str, str]:
    """Writes a short report about a company."""
    return {"name": company.name, "country": company.country}


@agent(skills=[Skill("shout")])
def shouter(text: str) -> str:
    """Says it louder."""
    return text.upper()


@agent
def grumpy(text: str) -> str:
    raise ValueError(f"not {text}")


HumanAgent("boss", output=bool, question="Really?")
if os.environ.get("WEATHER"):
    HttpAgent("weather", url=os.environ["WEATHER"] + "/{city}", input=dict, effect="read")
registry.add(researcher, instance="us-1", placement=("us",), health_url=os.environ.get("HEALTH", ""))


@workflow
async def idle(ctx: Context) -> str:
    return await ctx.call("shouter", "hello")
'''


@pytest.fixture
def cadenza(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    (tmp_path / "workflows.py").write_text(AGENTS, encoding="utf-8")
    return project


@pytest.fixture
def world() -> Iterator[World]:
    with serving() as world:
        yield world


def test_agents_are_listed_and_found(cadenza: Project) -> None:
    listed = cadenza("agents", "list")
    rows = listed.out.splitlines()
    assert (listed.code, listed.err) == (0, "")
    assert rows[0].split()[:4] == ["agent", "version", "instance", "state"]
    assert [row.split()[0] for row in rows[1:]] == ["researcher", "researcher", "shouter", "grumpy", "boss"]
    assert "Writes a short report about a company." in rows[1]
    for options in (["--skill", "research"], ["--tag", "web", "--tag", "finance"], ["--text", "due diligence"]):
        found = cadenza("agents", "list", *options, "--json").json
        assert [each["key"] for each in found] == ["researcher@1/", "researcher@1/us-1"]
    [us] = cadenza("agents", "list", "--label", "us", "--json").json
    assert (us["instance"], us["callable"], us["state"], us["card"]["price_usd"]) == ("us-1", True, "here", 0.002)
    nothing = cadenza("agents", "list", "--text", "zebra")
    assert (nothing.code, nothing.out, nothing.err) == (0, "", "No agent fits.\n")


def test_a_narrow_terminal_gets_the_columns_that_matter(cadenza: Project) -> None:
    for columns in (40, 60, 100, 160):
        with Terminal(cadenza, "agents", "list", columns=columns) as terminal:
            assert terminal.end() == 0
            lines = terminal.text.splitlines()
            assert max(map(len, lines)) <= columns
            assert lines[0].startswith("agent")
            assert "state" in lines[0]
            assert ("owner" in lines[0]) == (columns == 160)
            assert ESCAPES.search(terminal.raw)
            assert "\x1b[37m" not in terminal.raw, "white is not seen on a light background"
    plain = cadenza("agents", "list", COLUMNS="40")
    assert max(map(len, plain.out.splitlines())) <= 40


def test_an_agent_is_shown_with_its_card(cadenza: Project) -> None:
    shown = cadenza("agents", "show", "researcher@1").out
    for each in (
        "researcher@1\n", "state        here  this process can call it", "purpose      Due diligence",
        "owner        research team", "price        $0.002 a call", "latency      1.5 s",
        "limits       4 at once, 600 requests a minute", "placement    eu, cloud", "data         restricted",
        "skill        research  [web, finance]  Finds facts about companies.", "e.g. Who owns ACME?",
        "input        {name: string, country?: string}",
    ):  # fmt: skip
        assert each in shown
    assert [each["key"] for each in cadenza("agents", "show", "researcher", "--json").json] == [
        "researcher@1/", "researcher@1/us-1",
    ]  # fmt: skip


def test_an_agent_is_called_once(cadenza: Project) -> None:
    loud = cadenza("agents", "test", "shouter", "hello there")
    assert (loud.code, loud.out) == (0, '"HELLO THERE"\n')
    assert "✓ shouter@1 answered in " in loud.err
    assert "price unknown" in loud.err
    assert cadenza("agents", "test", "shouter", '"hello"').out == '"HELLO"\n'
    there = cadenza("agents", "test", "researcher", '{"name": "ACME"}', "--json")
    assert there.json["output"] == {"name": "ACME", "country": "DE"}
    assert (there.json["status"], there.json["price_usd"], there.json["took_s"] > 0) == ("completed", None, True)
    assert "its card expects $0.002" in cadenza("agents", "test", "researcher", '{"name": "ACME"}').err
    assert cadenza("show", there.json["run_id"]).code == 0
    failed = cadenza("agents", "test", "grumpy", "today")
    assert (failed.code, failed.out) == (1, "")
    assert "✗ grumpy@1 failed after" in failed.err
    assert "ValueError: not today" in failed.err
    person = cadenza("agents", "test", "boss", '"x"')
    assert person.code == 3
    assert "? Really?" in person.err
    run_id = cadenza.run_id()
    assert f"cadenza answer {run_id}" in person.err
    assert f"Then go on with: cadenza resume {run_id} workflows.py\n" in person.err
    assert cadenza("answer", run_id, "--approve").code == 0
    assert cadenza("resume", run_id, "workflows.py").out == "true\n"


def test_what_is_wrong_is_said_once_and_clearly(cadenza: Project) -> None:
    for arguments, said in [
        (["list", "--skill", "reserch"], "no skill is named 'reserch'. Did you mean 'research'?"),
        (["list", "--label", "clowd"], "no placement label is named 'clowd'. Did you mean 'cloud'?"),
        (["show", "reseacher"], "no agent is named 'reseacher'. Did you mean 'researcher' or"),
        (["test", "reseacher", "1"], "no agent is named 'reseacher'. Did you mean 'researcher' or"),
        (["test", "researcher"], "researcher needs an input: {name: string, country?: string}"),
        (["test", "researcher", "3"], "the input of researcher does not fit its type:"),
        (["test", "researcher", "{"], "the input of researcher is not JSON"),
        (["list", "--code", "nope.py"], "no file is named 'nope.py'"),
        (["add", "http://127.0.0.1:9"], "http://127.0.0.1:9/.well-known/agent-card.json: no agent card can be read"),
        (["add", "card.json"], "card.json: no agent card can be read: no such file or directory."),
    ]:
        refused = cadenza("agents", *arguments)
        assert (refused.code, refused.out) == (2, "")
        assert said in refused.err
    missing = cadenza("agents", "forget", "researcher")
    assert (missing.code, "cadenza.db" in missing.err) == (5, True)
    (cadenza.folder / "workflows.py").write_text(AGENTS + "\nregistry.add(researcher, instance='us-1')\n")
    twice = cadenza("agents", "list")
    assert twice.code == 2
    assert "there are two agents 'researcher' of version '1', instance 'us-1'. Give another version=" in twice.err


def test_agents_are_asked_whether_they_are_well(cadenza: Project, world: World) -> None:
    world.answer = lambda asked: Answered(500 if asked.target == "/healthz" else 404, {"state": "ill"})
    env = {"WEATHER": world.url, "HEALTH": f"{world.url}/healthz"}
    asked = cadenza("agents", "health", **env)
    assert asked.code == 1
    rows = {line.split()[1]: line for line in asked.out.splitlines()}
    assert rows["researcher@1"].startswith("✓")
    assert rows["researcher@1/us-1"].startswith("✗")
    assert "/healthz answered 500" in rows["researcher@1/us-1"]
    assert rows["weather@1"].startswith("✓"), "it answers, if only with 404"
    assert rows["boss@1"].startswith("?")
    world.answer = lambda _: Answered(200, {})
    assert cadenza("agents", "health", "researcher", **env).code == 0
    [well] = cadenza("agents", "health", "weather", "--json", **env).json
    assert (well["health"], well["detail"]) == ("well", "it answers")
    gone = cadenza("agents", "health", "weather", WEATHER="http://127.0.0.1:9")
    assert gone.code == 1
    assert "http://127.0.0.1:9/" in gone.out


def test_agents_of_a_worker_are_seen_from_elsewhere_until_it_is_killed(cadenza: Project) -> None:
    with cadenza.started("worker", "workflows.py") as worker:
        store = ["--store", "cadenza.db", "--code", "empty.py"]
        (cadenza.folder / "empty.py").write_text("", encoding="utf-8")

        def states() -> set[str]:
            return {each["state"] for each in cadenza("agents", "list", "--json", *store).json}

        until(lambda: states() == {"elsewhere"}, "the worker's agents were never seen")
        [shown] = cadenza("agents", "show", "shouter", "--json", *store).json
        assert (shown["workers"], shown["callable"]) == (1, False)
        assert "1 other process runs it" in cadenza("agents", "show", "shouter", *store).out
        refused = cadenza("agents", "test", "shouter", "x", *store)
        assert refused.code == 2
        assert "shouter cannot be called from here: other processes run it; name the file" in refused.err
        worker.kill()
        worker.wait()
    assert states() == {"ill"}
    health = cadenza("agents", "health", "shouter", *store)
    assert (health.code, "no process that runs it is heard of any more; last seen" in health.out) == (1, True)


def test_an_agent_is_added_by_its_card(cadenza: Project, world: World) -> None:
    serve(world, card_of(world.url))
    added = cadenza("agents", "add", world.url, "--name", "cook")
    assert added.code == 0
    assert "Added cook@1.2.0 (Recipe Agent)." in added.err
    [shown] = cadenza("agents", "show", "cook", "--json").json
    assert (shown["state"], shown["callable"], shown["card"]["owner"]) == ("card only", False, "Kitchen Ltd")
    assert "to call it, add it in code: registry.add_card" in shown["problem"]
    assert [each["agent"] for each in cadenza("agents", "list", "--skill", "recipes", "--json").json] == ["cook"]
    assert cadenza("agents", "health", "cook").code == 0
    refused = cadenza("agents", "test", "cook", "eggs")
    assert (refused.code, "cook cannot be called from here: known by its card; to call it" in refused.err) == (2, True)
    serve(world, {}, status=404)
    ill = cadenza("agents", "health", "cook")
    assert (ill.code, "answered 404" in ill.out) == (1, True)
    assert "Forgot cook@1.2.0" in cadenza("agents", "forget", "cook").err
    assert not cadenza("agents", "list", "--text", "recipe", "--json").json


def test_without_any_agents_it_says_what_to_do(tmp_path: Path) -> None:
    listed = Project(tmp_path)("agents", "list")
    assert (listed.code, listed.out) == (0, "")
    assert listed.err == "No agents. Decorate a function with @agent, or name a file: --code FILE\n"
