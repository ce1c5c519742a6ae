"""Agents that are written down: what a file may say, and that each mistake is answered with its file and line."""

import asyncio
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from cadenza import Context, Engine, workflow
from cadenza.agents import agent as registry
from cadenza.agents.files import AgentFile, load_agents
from cadenza.errors import AgentFileInvalid

WHOLE = """
name: writer
description: Writes one paragraph.
model: [test, ollama:llama3.2]   # the second is asked where the first fails
instructions: |
  Write plainly.
tools:
  - tools_of_{unique}:look_up
output:
  type: object
  properties:
    title: {{type: string, minLength: 1}}
    stars: {{type: integer, minimum: 1, maximum: 5}}
  required: [title, stars]
settings: {{temperature: 0}}
skills:
  - {{id: write, description: Writes., tags: [text], examples: [Write about trees.]}}
  - edit
price_usd: 0.01
"""
TOOLS = '''
from dataclasses import dataclass

@dataclass
class Page:
    title: str

def look_up(word: str) -> str:
    """What a word means."""
    return "a tree"
'''

Write = Callable[[str], Path]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with ``agents/`` and a module of tools, on ``sys.path``; what it registers is forgotten afterwards."""
    (tmp_path / "agents").mkdir()
    (tmp_path / f"tools_of_{tmp_path.name}.py").write_text(TOOLS)
    monkeypatch.syspath_prepend(str(tmp_path))
    agents, defined = dict(registry.agents), dict(registry._defined)
    yield tmp_path
    for table, before in ((registry.agents, agents), (registry._defined, defined)):
        table.clear()  # pyright: ignore[reportAttributeAccessIssue]
        table.update(before)  # pyright: ignore[reportCallIssue, reportArgumentType]
    sys.modules.pop(f"tools_of_{tmp_path.name}", None)


@pytest.fixture
def write(project: Path) -> Write:
    def put(text: str) -> Path:
        path = project / "agents" / "writer.yaml"
        path.write_text(textwrap.dedent(text).lstrip("\n").replace("tools_of_it", f"tools_of_{project.name}"))
        return path

    return put


def problems_of(path: Path) -> list[tuple[int, str]]:
    with pytest.raises(AgentFileInvalid) as caught:
        AgentFile(path)
    assert str(path) in str(caught.value)
    return caught.value.problems


def test_a_file_is_registered_with_its_card(project: Path) -> None:
    (project / "agents" / "writer.yaml").write_text(WHOLE.format(unique=project.name))
    (made,) = load_agents(project / "agents")
    assert registry.find_agent("writer") is made
    card = made.card
    assert (card.description, card.price_usd) == ("Writes one paragraph.", 0.01)
    assert [skill.id for skill in card.skills] == ["write", "edit"]
    assert card.output_schema is not None
    assert card.output_schema["properties"]["stars"]["maximum"] == 5
    assert made.model_names == ("test", "ollama:llama3.2")
    assert list(made.tools) == ["look_up"]


def test_an_agent_of_a_file_is_called_like_any_other(write: Write) -> None:
    load_agents(write("model: test\noutput: tools_of_it:Page\ntools: [tools_of_it:look_up]").parent)

    @workflow(name="writes")
    async def writes(ctx: Context, topic: str) -> str:
        page = await ctx.call("writer", topic)
        return type(page).__name__ + ": " + page.title

    async def main() -> str:
        async with Engine.open(":memory:") as engine:
            handle = await engine.start(writes, "trees")
            return await handle.result()

    assert asyncio.run(main()) == "Page: a"


def test_a_folder_that_is_not_there_has_no_agents(tmp_path: Path) -> None:
    assert load_agents(tmp_path / "agents") == []


def test_the_name_is_the_file_s_name_by_default(write: Write) -> None:
    assert AgentFile(write("model: test")).definition.name == "writer"


def test_the_hash_is_of_what_is_said(write: Write) -> None:
    first = AgentFile(write("model: test\ninstructions: Write.")).definition.sha256
    again = AgentFile(write("# plainly\ninstructions: 'Write.'\nmodel: [test]")).definition.sha256
    other = AgentFile(write("model: test\ninstructions: Write!")).definition.sha256
    assert first == again != other


def test_a_file_loaded_twice_is_the_same_agent(write: Write) -> None:
    folder = write("model: test").parent
    load_agents(folder)
    load_agents(folder)


def test_two_files_of_one_name_are_refused_with_both_places(write: Write) -> None:
    first = write("model: test")
    (first.parent / "zwriter.yml").write_text("model: test\nname: writer\n")
    with pytest.raises(AgentFileInvalid) as caught:
        load_agents(first.parent)
    assert f"{first.parent}/zwriter.yml:2: " in str(caught.value)
    assert str(first) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("model: test\ninstructons: hi", 2, "unknown key 'instructons'. Did you mean 'instructions'?"),
        ("description: hi", 1, "model is missing"),
        ("model: test\n\nprice_usd: cheap", 3, "price_usd: should be a valid number, not 'cheap'"),
        ("model: test\nprice_usd: -1", 2, "greater than or equal to 0"),
        ("model: []", 1, "model: List should have at least 1 item"),
        ("model:\n  - test\n  - antropic:claude", 3, "Did you mean 'anthropic'"),
        ("model: test\ntools:\n  - look up", 3, "'look up' names no function; write module:function"),
        ("model: test\nskills:\n  - id: a\n    tag: [b]", 4, "unknown key 'tag'. Did you mean 'tags'?"),
        ("model: test\noutput: 3", 2, "output: write module:Type, or a JSON schema"),
        ("model: test\nname: a b", 2, "'a b' cannot be a name"),
        ("model: test\nmodel: test", 2, "the key 'model' is given twice"),
        ("model: test\ntools: [a:b", 2, "is not YAML"),
        ("- model: test", 1, "an agent's file is a mapping"),
        ("", 1, "an agent's file is a mapping"),
        ("model: !!python/object:os.system x", 1, "is not YAML: could not determine a constructor"),
    ],
)
def test_a_mistake_is_answered_with_its_line(text: str, line: int, says: str, write: Write) -> None:
    (problem,) = problems_of(write(text))
    assert problem[0] == line
    assert says in problem[1]


def test_all_mistakes_of_a_file_are_said_at_once(write: Write) -> None:
    assert [line for line, _ in problems_of(write("model: test\nstream: perhaps\nlatency_s: slow"))] == [2, 3]


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("tools_of_it:lok_up", "has no 'lok_up'. Did you mean 'look_up'?"),
        ("toolz_of_nobody:look_up", "there is no module toolz_of_nobody"),
        ("broken_module:look_up", "importing broken_module fails: ZeroDivisionError"),
        ("half_module:look_up", "importing half_module fails: No module named 'nowhere_at_all'"),
    ],
)
def test_a_tool_that_is_not_there_is_answered_with_its_line(
    reference: str, says: str, write: Write, project: Path
) -> None:
    (project / "broken_module.py").write_text("1 / 0")
    (project / "half_module.py").write_text("import nowhere_at_all")
    path = write(f"model: test\ntools:\n  - tools_of_it:look_up\n  - {reference}")
    with pytest.raises(AgentFileInvalid) as caught:
        load_agents(path.parent)
    ((line, problem),) = caught.value.problems
    assert line == 4
    assert says in problem


def test_something_that_is_no_tool_is_refused(write: Write) -> None:
    path = write("model: test\ntools: [sys:path]")
    with pytest.raises(AgentFileInvalid, match=r"writer.yaml:2: .*is no tool"):
        load_agents(path.parent)


# --- inline schemas ---------------------------------------------------------------------------------------------------


def test_an_answer_is_held_to_the_schema_of_the_file(write: Write) -> None:
    output = "output: {type: object, properties: {stars: {type: integer, minimum: 1, maximum: 5}}, required: [stars]}"
    (made,) = load_agents(write(f"model: test\n{output}").parent)
    adapter: TypeAdapter[Any] = TypeAdapter(made.output)
    assert adapter.validate_python({"stars": 5}) == {"stars": 5}
    for wrong in ({}, {"stars": 6}, {"stars": "many"}):
        with pytest.raises(ValidationError):
            adapter.validate_python(wrong)


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ("{type: strng}", "the type 'strng'; known are string"),
        ("{type: array, items: {$ref: '#/$defs/Page'}}", "write the type in Python, as module:Type"),
    ],
)
def test_a_schema_that_makes_no_sense_is_refused(output: str, says: str, write: Write) -> None:
    path = write(f"model: test\noutput: {output}")
    with pytest.raises(AgentFileInvalid) as caught:
        load_agents(path.parent)
    ((line, problem),) = caught.value.problems
    assert line == 2
    assert says in problem


def test_a_file_says_what_orchestration_needs(write: Write) -> None:
    lines = (
        "model: test\nconcurrency: 2\nrequests_per_minute: 30\ntokens_per_minute: 5000\nowner: team\npurpose: Tests\n"
    )
    [made] = load_agents(write(lines).parent)
    card = made.card
    assert (card.concurrency, card.requests_per_minute, card.tokens_per_minute) == (2, 30, 5_000)
    assert (card.owner, card.purpose) == ("team", "Tests")
    with pytest.raises(AgentFileInvalid, match="concurrency: should be greater than or equal to 1, not 0"):
        AgentFile(write("model: test\nconcurrency: 0\n"))
