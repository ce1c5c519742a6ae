"""Agents that are written down beside a workflow, through the command: run, worker, check and doctor find them."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.model_listing import listing_models

from .commands import Project

WRITER = """
description: Writes a title.
model: test
instructions: Write one title.
tools: [words:look_up]
output: {type: object, properties: {title: {type: string}}, required: [title]}
"""
WORDS = '''
def look_up(word: str) -> str:
    """What a word means."""
    return "a tree"
'''
WRITES = """

@workflow
async def writes(ctx: Context, topic: str) -> str:
    page = await ctx.call("writer", topic)
    return page["title"]
"""


@pytest.fixture
def cadenza(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    with (tmp_path / "flows.py").open("a") as flows:
        flows.write(WRITES)
    (tmp_path / "words.py").write_text(WORDS)
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "writer.yaml").write_text(WRITER.lstrip())
    for variable in ("CADENZA_MODEL", "OLLAMA_BASE_URL", "ANTHROPIC_API_KEY"):
        project.env.pop(variable, None)
    return project


def test_run_calls_an_agent_that_is_written_down(cadenza: Project) -> None:
    done = cadenza("run", "flows.py:writes", '"trees"')
    assert (done.code, json.loads(done.out)) == (0, "a"), done.err


def test_a_file_that_is_wrong_stops_a_run_before_it_begins(cadenza: Project) -> None:
    (cadenza.folder / "agents" / "writer.yaml").write_text("model: test\ntools: [words:lok_up]\n")
    done = cadenza("run", "flows.py:writes", '"trees"')
    assert done.code == 2
    assert "agents/writer.yaml:2: words:lok_up: words has no 'lok_up'. Did you mean 'look_up'?" in done.err
    assert not (cadenza.folder / "cadenza.db").exists()
    assert cadenza("worker", "flows.py").code == 2


def test_check_reads_the_agents_and_imports_nothing(cadenza: Project) -> None:
    assert cadenza("check", "words.py").code == 0
    (cadenza.folder / "words.py").write_text(WORDS + "\nraise RuntimeError('imported')\n")
    (cadenza.folder / "agents" / "broken.yaml").write_text("model: test\ninstructons: hi\ntools:\n  - words:lok_up\n")
    (cadenza.folder / "agents" / "writer.yaml").write_text(
        "model: test\ntools:\n  - words:look_up\n  - words:lok_up\n  - worlds:look_up\noutput: json:JSONDecoder\n"
    )
    done = cadenza("check", "words.py", "--json")
    assert done.code == 1
    assert [(Path(each["file"]).name, each["line"]) for each in done.json] == [
        ("broken.yaml", 2), ("writer.yaml", 4), ("writer.yaml", 5),
    ]  # fmt: skip
    assert "Did you mean 'look_up'?" in done.json[1]["message"]


@pytest.fixture
def ollama() -> Iterator[str]:
    with listing_models() as url:
        yield url


def test_doctor_says_which_models_can_be_reached(cadenza: Project, ollama: str) -> None:
    def write(name: str, model: str) -> None:
        (cadenza.folder / "agents" / f"{name}.yaml").write_text(f"model: {model}\n")

    def states(done_json: list[dict[str, str]]) -> dict[str, str]:
        return {each["check"]: each["state"] for each in done_json}

    write("local", "ollama:llama3.2")
    write("both", "[anthropic:claude-sonnet-4-5, ollama:llama3.2]")
    done = cadenza("doctor", "--json", OLLAMA_BASE_URL=ollama)
    found = states(done.json)
    assert done.code == 0
    assert (found["agent writer"], found["agent local"], found["agent both"]) == ("ok", "ok", "warning")
    details = {each["check"]: each["detail"] for each in done.json}
    assert "ANTHROPIC_API_KEY is not set" in details["agent both"]
    assert "llama3.2:latest" in details["Ollama"]

    write("alone", "anthropic:claude-sonnet-4-5")
    write("wrong", "antropic:claude-sonnet-4-5")
    done = cadenza("doctor", "--json", OLLAMA_BASE_URL=ollama, CADENZA_MODEL="ollama:mistral")
    found = states(done.json)
    assert done.code == 1
    assert (found["agent alone"], found["agent wrong"], found["$CADENZA_MODEL"]) == ("problem", "problem", "problem")


def test_doctor_looks_for_the_models_of_agents_in_code(cadenza: Project) -> None:
    code = 'from cadenza import Agent\nAgent("doctored", model="openai:gpt-5", instructions="")\n'
    (cadenza.folder / "doctored_agents.py").write_text(code)
    done = cadenza("doctor", "doctored_agents.py", "--json", OPENAI_API_KEY="")
    found = {each["check"]: (each["state"], each["detail"]) for each in done.json}
    assert (done.code, found["agent doctored"][0]) == (1, "problem")
    assert "no key is set" in found["hosted models"][1]
    done = cadenza("doctor", "doctored_agents.py", OPENAI_API_KEY="k")
    assert "OPENAI_API_KEY is set" in done.out
    assert cadenza("doctor", "nowhere.py").code == 2
