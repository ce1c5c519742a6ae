"""Training the classifier on what people said: corrections in the store's runs, and labelled examples in a file.

A correction is an answer to a router's question "what is wanted?" that names a skill, or an agent that has one skill.
They are read from the journals, so that they are kept, sealed and purged with their runs. A trained model is a folder
beside the store; the catalogue says which one is used, its hash, and how well it did.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from cadenza.durable import codec, events
from cadenza.durable.human import Answer, HumanTask
from cadenza.engine.catalogue import Catalogue
from cadenza.engine.engine import Engine
from cadenza.engine.filter import Filter
from cadenza.errors import InputInvalid, UsageError
from cadenza.routing.classifier import Example, SkillClassifier, TrainingOptions, held_out, split_hash
from cadenza.routing.instance import Instance

COMPONENT, VERSION = "routing_skills", 1
TABLES = """
CREATE TABLE routing_model (
    number INTEGER PRIMARY KEY, kind TEXT NOT NULL, folder TEXT NOT NULL, sha256 TEXT NOT NULL, metrics TEXT NOT NULL
) STRICT
"""
KIND = "skills"
RUNS_MAX = 100_000
ASKED = {"wanted", "text", "why", "best"}
"""What the details of a router's question have (routing/router.py)."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A model that is registered.

    Attributes:
        folder: beside the store's file.
        metrics: ``examples``, ``skills``, ``accuracy`` (on a fifth that was held out before), ``split`` (its hash).
    """

    number: int
    folder: Path
    sha256: str
    metrics: Mapping[str, Any]


def examples_of(path: Path) -> list[Example]:
    """The examples of a file: in each line ``{"text": …, "skill": …}``; no skill is out of scope.

    Raises:
        UsageError: a line is something else; it is named.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the examples in {path} cannot be read: {error}") from error
    return [_example(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]


def corrections(engine: Engine, instances: Sequence[Instance]) -> list[Example]:
    """What people said that was wanted, in all runs of a store; newest runs first."""
    skills = skills_named(instances)
    found: list[Example] = []
    for row in engine.runs(Filter(limit=RUNS_MAX)):
        found += _corrected(engine.journal(row.run_id), skills)
    return found


def skills_named(instances: Iterable[Instance]) -> dict[str, str]:
    """What a person may say for a skill: its id, and the name or key of an agent that has one skill only."""
    named: dict[str, str] = {}
    for each in instances:
        ids = [skill.id for skill in each.card.skills]
        named |= {skill: skill for skill in ids}
        if len(ids) == 1:
            named |= {each.card.name: ids[0], each.key: ids[0]}
    return named


def train(
    catalogue: Catalogue, store: Path, examples: Sequence[Example], options: TrainingOptions | None = None
) -> Trained:
    """Train on examples, register the model for all processes of the store, and say how well it does.

    Raises:
        UsageError: too few examples; nothing was changed.
        ModelUnavailable: the extra ``routing`` is not installed.
    """
    options = options or TrainingOptions()
    examples = list(dict.fromkeys(examples))
    model = SkillClassifier.trained(examples, options=options)
    part, rest = held_out(examples)
    judged = SkillClassifier.trained(part, rest, replace(options))
    inside = [each for each in rest if each.skill]
    guesses = judged.guess([each.text for each in inside])
    right = sum(guess.skill == each.skill for guess, each in zip(guesses, inside, strict=True))
    metrics = {
        "examples": len(examples),
        "skills": len(model.skills),
        "accuracy": round(right / len(inside), 4),
        "split": split_hash(part, rest),
    }
    folder = store.with_name(f"{store.name}-models") / f"{KIND}-{split_hash(examples)}"
    return registered(catalogue, folder, model.save(folder), metrics)


def registered(catalogue: Catalogue, folder: Path, sha256: str, metrics: Mapping[str, Any]) -> Trained:
    """Make a model the one that is used. Raises StoreError."""
    catalogue.ensure(COMPONENT, VERSION, TABLES)
    told = os.path.relpath(folder, catalogue.path.parent) if catalogue.path else str(folder)

    def write(connection: Any) -> int:
        row = (KIND, told, sha256, json.dumps(metrics))
        connection.execute("INSERT INTO routing_model (kind, folder, sha256, metrics) VALUES (?, ?, ?, ?)", row)
        return int(connection.last_insert_rowid())

    return Trained(catalogue.write(write), folder, sha256, metrics)


def current(catalogue: Catalogue) -> Trained | None:
    """The model that was registered last; None if there is none. Raises StoreError."""
    catalogue.ensure(COMPONENT, VERSION, TABLES)
    rows = catalogue.read(
        "SELECT number, folder, sha256, metrics FROM routing_model WHERE kind = ? ORDER BY number DESC LIMIT 1", (KIND,)
    )
    if not rows:
        return None
    number, folder, sha256, metrics = rows[0]
    beside = catalogue.path.parent if catalogue.path else Path()
    return Trained(number, beside / folder, sha256, json.loads(metrics))


def _corrected(journal: Sequence[events.AnyEvent], skills: Mapping[str, str]) -> list[Example]:
    asked: dict[str, str] = {}
    found: list[Example] = []
    for event in journal:
        if isinstance(event, events.TaskOpened):
            details = codec.decode(event.task, HumanTask, "a question").details
            if isinstance(details, dict) and set(cast("dict[str, Any]", details)) == ASKED:
                asked[event.path] = str(cast("dict[str, Any]", details)["text"])
        elif isinstance(event, events.TaskAnswered) and event.path in asked:
            said = str(codec.decode(event.answer, Answer, "an answer").value).strip()
            if said in skills:
                found.append(Example(asked[event.path], skills[said]))
    return found


def _example(line: str, where: str) -> Example:
    try:
        given: dict[str, str] = codec.decode(line.encode(), dict[str, str], where)
    except InputInvalid as error:
        raise UsageError(f'{where} is no example. Write {{"text": "…", "skill": "…"}}') from error
    if not given.get("text", "").strip() or set(given) - {"text", "skill"}:
        raise UsageError(f"{where} needs a text, and has a skill besides and nothing else")
    return Example(given["text"], given.get("skill", ""))
