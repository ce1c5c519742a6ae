"""The public data that routing is measured on: ``$CADENZA_DATA``, else ../shared/data."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cadenza.routing.classifier import Example, split_hash

FOLDER = Path(os.environ.get("CADENZA_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
WEAK, STRONG = "mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview"


@dataclass(frozen=True)
class Split:
    """Examples to train on, to calibrate on (may be empty), and to report on."""

    train: list[Example]
    validation: list[Example]
    test: list[Example]

    @property
    def name(self) -> str:
        return split_hash(self.train, self.validation, self.test)

    def shuffled(self, seed: int) -> Split:
        """All examples anew, in parts of the same sizes, each with as many out of scope."""
        parts: list[list[Example]] = [[], [], []]
        for inside in (True, False):
            own = [[each for each in part if bool(each.skill) == inside] for part in self.parts]
            every = [each for part in own for each in part]
            random.Random(seed).shuffle(every)
            for target, part in zip(parts, own, strict=True):
                target += [every.pop() for _ in part]
        return Split(*parts)

    @property
    def parts(self) -> tuple[list[Example], list[Example], list[Example]]:
        return self.train, self.validation, self.test


@dataclass(frozen=True)
class Recorded:
    """Questions, and whether each of two models was right; ``subjects`` are groups of questions."""

    texts: list[str]
    weak: list[float]
    strong: list[float]
    subjects: list[str]

    def folds(self, seed: int, count: int = 5, *, by_subject: bool = False) -> list[int]:
        """The fold of each question, by chance; or of each subject, so that none is known beforehand."""
        if not by_subject:
            folds = [number % count for number in range(len(self.texts))]
            random.Random(seed).shuffle(folds)
            return folds
        subjects = sorted(set(self.subjects))
        random.Random(seed).shuffle(subjects)
        place = {subject: number % count for number, subject in enumerate(subjects)}
        return [place[subject] for subject in self.subjects]


def there() -> bool:
    return (FOLDER / "clinc150").is_dir() and (FOLDER / "banking77").is_dir() and (FOLDER / "routellm").is_dir()


def clinc150() -> Split:
    parts = json.loads((FOLDER / "clinc150" / "data_full.json").read_text("utf-8"))

    def of(*names: str) -> list[Example]:
        return [Example(text, "" if skill == "oos" else skill) for name in names for text, skill in parts[name]]

    return Split(of("train", "oos_train"), of("val", "oos_val"), of("test", "oos_test"))


def banking77() -> Split:
    def of(name: str) -> list[Example]:
        with (FOLDER / "banking77" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            return [Example(row["text"], row["category"]) for row in csv.DictReader(file)]

    return Split(of("train"), [], of("test"))


def mmlu() -> Recorded:
    return _recorded(sorted((FOLDER / "routellm" / "mmlu").glob("*.csv")))


def gsm8k() -> Recorded:
    return _recorded([FOLDER / "routellm" / "gsm8k_responses.csv"])


def folds_hash(recorded: Recorded, folds: Sequence[int]) -> str:
    """Names the questions and their folds."""
    told = "\n".join(f"{fold} {text}" for fold, text in zip(folds, recorded.texts, strict=True))
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def _recorded(files: Sequence[Path]) -> Recorded:
    made = Recorded([], [], [], [])
    for path in files:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                made.texts.append(row["prompt"])
                made.weak.append(float(row[WEAK] == "True"))
                made.strong.append(float(row[STRONG] == "True"))
                made.subjects.append(path.stem)
    return made
