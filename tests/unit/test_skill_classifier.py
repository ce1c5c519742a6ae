"""The learned classifier of skills, on small sets of made-up requests."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from cadenza.errors import UsageError
from cadenza.routing.calibration import Scope, calibration_error, fitted_temperature, probabilities
from cadenza.routing.classifier import Example, SkillClassifier, TrainingOptions, held_out, split_hash
from cadenza.routing.model_folder import ARRAYS, JSON
from cadenza.routing.network import NetworkOptions

WORDS = {
    "balance": ("what is/tell me/show me/i need", "the balance/the total/how much is left", "of my account/on my card"),
    "weather": (
        "will it/is it going to/say if it will",
        "rain/snow/be sunny/get cold",
        "tomorrow/in paris/this weekend",
    ),
    "music": (
        "play/put on/let me hear",
        "a song/some jazz/the new album/a record",
        "by miles davis/for dancing/tonight",
    ),
}
ELSEWHERE = [
    "how do magnets work",
    "who won the election of 1912",
    "why do exponents come before multiplication",
    "what size of wipers does this car take",
    "recommend a book about whales",
    "is it legal to keep a raccoon",
    "how tall can a giraffe grow",
    "which river is the longest on earth",
]


def made(seed: int, count: int = 24) -> list[Example]:
    draw = random.Random(seed)
    return [
        Example(" ".join(draw.choice(part.split("/")) for part in WORDS[skill]), skill)
        for skill in WORDS
        for _ in range(count)
    ]


QUICK = TrainingOptions(out_of_scope_share=0.2, network=NetworkOptions(hidden=64, steps_min=150))


@cache
def trained() -> SkillClassifier:
    outside = [Example(text, "") for text in ELSEWHERE[:5]]
    return SkillClassifier.trained(made(1), [*made(2), *outside], QUICK)


def test_it_finds_the_skill_that_a_text_asks_for() -> None:
    test = made(3)
    guesses = trained().guess([each.text for each in test])
    right = [guess.skill == each.skill and not guess.abstains for guess, each in zip(guesses, test, strict=True)]
    assert sum(right) >= 0.95 * len(test)
    for guess in guesses:
        assert 0 <= guess.confidence <= guess.in_scope <= 1
        assert sum(chance for _, chance in guess.odds) == pytest.approx(1, abs=1e-4)
        assert [chance for _, chance in guess.odds] == sorted((chance for _, chance in guess.odds), reverse=True)


def test_it_abstains_where_no_skill_fits() -> None:
    guesses = trained().guess(ELSEWHERE[5:])
    assert [guess.abstains for guess in guesses] == [True] * 3
    assert trained().guess([]) == []


def test_the_same_seed_gives_the_same_classifier() -> None:
    first, second = (
        SkillClassifier.trained(made(1), made(2), QUICK).guess(["play some jazz", "rain?"]) for _ in range(2)
    )
    assert first == second


def test_two_skills_are_enough_and_one_is_not() -> None:
    two = [each for each in made(1) if each.skill != "music"]
    guesses = SkillClassifier.trained(two, options=QUICK).guess(
        ["show me the balance in checking", "will it snow in paris"]
    )
    assert [guess.skill for guess in guesses] == ["balance", "weather"]
    with pytest.raises(UsageError, match="needs examples of two skills or more, and has them of 1"):
        SkillClassifier.trained([each for each in two if each.skill == "balance"])
    with pytest.raises(UsageError, match="needs 4 examples of each skill, and has 1 of 'rare'"):
        SkillClassifier.trained([*two, Example("something else", "rare")])


def test_a_saved_classifier_says_the_same(tmp_path: Path) -> None:
    made_hash = trained().save(tmp_path / "model")
    again = SkillClassifier.load(tmp_path / "model", made_hash)
    texts = [each.text for each in made(4)] + ELSEWHERE
    assert again.guess(texts) == trained().guess(texts)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]
    trained().save(tmp_path / "model")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_a_damaged_or_foreign_model_is_not_used(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    made_hash = trained().save(folder)
    with pytest.raises(UsageError, match=r"model\.json is missing\. Train it again: cadenza agents train"):
        SkillClassifier.load(tmp_path / "none")
    arrays = (folder / ARRAYS).read_bytes()
    (folder / ARRAYS).write_bytes(arrays[:-1] + bytes([arrays[-1] ^ 1]))
    with pytest.raises(UsageError, match="its files are not those that were written"):
        SkillClassifier.load(folder)
    (folder / ARRAYS).write_bytes(arrays)
    head = json.loads((folder / JSON).read_text())
    head["model"]["skills"].reverse()
    (folder / JSON).write_text(json.dumps(head))
    with pytest.raises(UsageError, match="its files are not those that were written"):
        SkillClassifier.load(folder, made_hash)
    head["model"]["embedder"][1] = "0.0"
    (folder / JSON).write_text(json.dumps(head))
    with pytest.raises(UsageError, match=r"was trained on the vectors of wordllama:l2_supercat 0\.0"):
        SkillClassifier.load(folder)
    (folder / JSON).write_text(json.dumps(head | {"kind": "other"}))
    with pytest.raises(UsageError, match="it is a other of format 1, not a skill classifier"):
        SkillClassifier.load(folder)
    (folder / JSON).write_text("{")
    with pytest.raises(UsageError, match="it cannot be read"):
        SkillClassifier.load(folder)


def test_a_split_has_a_name_that_does_not_depend_on_its_order() -> None:
    first, second = made(1), made(2)
    assert split_hash(first, second) == split_hash(first[::-1], second) != split_hash(second, first)
    train, rest = held_out(first)
    assert len(rest) == 12
    assert sorted([*train, *rest], key=repr) == sorted(first, key=repr)


def test_temperature_undoes_what_made_logits_too_sure() -> None:
    chance = np.random.default_rng(1)
    logits = chance.normal(0, 2, (4000, 5))
    labels = np.array([chance.choice(5, p=row) for row in probabilities(logits)])
    assert fitted_temperature(logits * 7, labels) == pytest.approx(7, rel=0.1)
    sure = probabilities(logits * 7)
    right = logits.argmax(axis=1) == labels
    assert calibration_error(sure.max(axis=1), right) > 0.2
    assert calibration_error(probabilities(logits * 7, 7).max(axis=1), right) < 0.03


def test_calibration_error_is_the_distance_of_confidence_and_accuracy() -> None:
    assert calibration_error(np.full(10, 0.7), np.arange(10) < 7) == pytest.approx(0)
    assert calibration_error(np.full(10, 0.9), np.arange(10) < 5) == pytest.approx(0.4)


def test_the_line_moves_with_the_share_that_is_expected_out_of_scope() -> None:
    chance = np.random.default_rng(1)
    inside = np.arange(1200) < 1000
    signals = np.where(inside, 1.0, -1.0)[:, None] + chance.normal(0, 1, (1200, 1))
    answered = []
    for share in (0.01, 0.2, 0.6):
        scope = Scope.fitted(signals, inside, inside, share)
        answered.append((scope.probability(signals) >= scope.line).mean())
    assert answered == sorted(answered, reverse=True)
    assert answered[0] > 0.95
    assert answered[-1] < 0.8
    alone = Scope.fitted(signals[:1000], np.ones(1000, bool), np.ones(1000, bool), 0.2)
    assert (alone.probability(signals[:1000]) < alone.line).mean() == pytest.approx(0.02, abs=0.005)
    assert replace(alone, line=0.5).line == 0.5
