"""`cadenza agents train`, from people's corrections and from files, and choices with what was learned."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path

import pytest

from cadenza import Context, Engine, EngineOptions, Need, Skill, agent, step, workflow
from cadenza.engine.catalogue import current_catalogue
from cadenza.routing.classifier import Example
from cadenza.routing.classifier_scorer import ClassifierScorer
from cadenza.routing.registry import registry
from cadenza.routing.skill_training import current, examples_of
from tests.acceptance.commands import Project

AGENTS = """
from cadenza import Skill, agent


@agent(skills=[Skill("train-money")])
def train_bank(text: str) -> str:
    return text


@agent(skills=[Skill("train-sky")])
def train_weather(text: str) -> str:
    return text
"""
MONEY = [f"{verb} the {noun}" for verb in ("show", "send", "count") for noun in ("balance", "savings", "cash", "debt")]
SKY = [f"will it {verb} {when}" for verb in ("rain", "snow", "hail") for when in ("today", "at noon", "soon", "later")]


@agent(skills=[Skill("train-money")])
def train_bank(text: str) -> str:
    return "bank"


@agent(skills=[Skill("train-sky")])
def train_weather(text: str) -> str:
    return "weather"


@step(effect="read")
async def train_scores(text: str) -> list[float | None]:
    instances = [each for each in registry.instances() if each.card.name in ("train_bank", "train_weather")]
    assert current_catalogue.get(None) is not None
    return [score.value for score in ClassifierScorer().score(Need(), text, instances, random.Random(1), 0)]


@workflow
async def train_scored(ctx: Context, text: str) -> list[float | None]:
    return await ctx.step(train_scores, text)


@pytest.fixture
def cadenza(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    (tmp_path / "workflows.py").write_text(AGENTS, encoding="utf-8")
    lines = [{"text": text, "skill": "train-money"} for text in MONEY]
    lines += [{"text": text, "skill": "train-sky"} for text in SKY]
    lines += [{"text": f"compose a {what}", "skill": ""} for what in ("poem", "song", "letter", "speech", "ode")]
    (tmp_path / "examples.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return project


def test_what_is_trained_is_used_by_runs_of_the_store(cadenza: Project) -> None:
    path = cadenza.folder / "cadenza.db"

    async def scored() -> list[list[float | None]]:
        async with Engine.open(path) as engine:
            runs = [await engine.start(train_scored, text) for text in ("send my cash", "will it hail")]
            return [await run.result() for run in runs]

    assert asyncio.run(scored()) == [[None, None]] * 2
    done = cadenza("agents", "train", "--examples", "examples.jsonl")
    assert done.code == 0, done.err
    assert "12  train-money" in done.out
    assert "right on a fifth that was held out (split " in done.out + done.err
    as_json = cadenza("agents", "train", "--examples", "examples.jsonl", "--json").json
    assert as_json["examples"] == 29
    assert as_json["skills"] == 2
    assert 0.5 <= as_json["accuracy"] <= 1
    (bank, cold), (warm, weather) = asyncio.run(scored())
    assert bank is not None
    assert weather is not None
    assert bank > (cold or 0)
    assert weather > (warm or 0)


def test_a_moved_store_finds_its_model_and_a_damaged_one_is_told(cadenza: Project) -> None:
    async def made() -> None:
        async with Engine.open(cadenza.folder / "cadenza.db", EngineOptions(worker=False)):
            pass

    asyncio.run(made())
    assert cadenza("agents", "train", "--examples", "examples.jsonl").code == 0
    moved = cadenza.folder.with_name(f"{cadenza.folder.name}-moved")
    cadenza.folder.rename(moved)

    async def found() -> Path:
        async with Engine.open(moved / "cadenza.db", EngineOptions(worker=False)) as engine:
            trained = current(engine.catalogue)
            assert trained is not None
            return trained.folder

    assert asyncio.run(found()).is_dir()
    moved.rename(cadenza.folder)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "line 1 is no example"),
        ('{"text": 5}', "line 1 is no example"),
        ('{"skill": "x"}', "line 1 needs a text"),
        ('{"text": "a", "other": "b"}', "line 1 needs a text"),
        ('{"text": "a", "skill": "x"}', "needs examples of two skills or more, and has them of 1"),
    ],
)
def test_wrong_examples_are_told_with_their_line(line: str, problem: str, cadenza: Project) -> None:
    (cadenza.folder / "wrong.jsonl").write_text(line, encoding="utf-8")

    async def made() -> None:
        async with Engine.open(cadenza.folder / "cadenza.db", EngineOptions(worker=False)):
            pass

    asyncio.run(made())
    done = cadenza("agents", "train", "--examples", "wrong.jsonl")
    assert done.code == 2
    assert problem in " ".join(done.err.split())


def test_nothing_to_learn_from_says_so(cadenza: Project) -> None:
    async def made() -> None:
        async with Engine.open(cadenza.folder / "cadenza.db", EngineOptions(worker=False)):
            pass

    asyncio.run(made())
    done = cadenza("agents", "train")
    assert done.code == 2
    assert "Give labelled examples: --examples FILE.jsonl" in done.err.replace("\n", " ")


def test_a_files_examples_are_read(tmp_path: Path) -> None:
    (tmp_path / "e.jsonl").write_text('{"text": "a", "skill": "x"}\n\n{"text": "b"}\n', encoding="utf-8")
    assert examples_of(tmp_path / "e.jsonl") == [Example("a", "x"), Example("b", "")]
