"""The predictor of whether the strong model is needed, and the measures of its worth."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from cadenza.errors import UsageError
from cadenza.routing.difficulty import GainPredictor, average_recovered, calls_needed, measures, recovered


def questions(seed: int, count: int) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Proofs need the strong model, greetings do not."""
    draw = random.Random(seed)
    hard = [draw.random() < 0.5 for _ in range(count)]
    texts = [
        f"prove that the {draw.choice(['sum', 'group'])} {draw.randint(2, 99)} is {draw.choice(['finite', 'closed'])}"
        if each
        else f"say {draw.choice(['hello', 'thanks', 'goodbye'])} to {draw.choice(['Ann', 'Bob', 'Eve'])}"
        for each in hard
    ]
    weak = np.array([draw.random() < (0.2 if each else 0.9) for each in hard], float)
    strong = np.array([draw.random() < 0.9 for _ in hard], float)
    return texts, weak, strong


@cache
def trained() -> GainPredictor:
    return GainPredictor.trained(*questions(1, 300))


def test_it_sends_the_hard_ones_to_the_strong_model() -> None:
    texts, weak, strong = questions(2, 200)
    predictor = trained()
    gains = predictor.gain(texts)
    assert average_recovered(gains, weak, strong) > 0.65
    hard = np.array([text.startswith("prove") for text in texts])
    assert gains[hard].min() > gains[~hard].max()
    assert gains[hard].mean() == pytest.approx(0.7, abs=0.15)
    assert (gains >= predictor.line(0.25)).mean() == pytest.approx(0.25, abs=0.12)


def test_a_saved_predictor_says_the_same(tmp_path: Path) -> None:
    made = trained().save(tmp_path / "model")
    again = GainPredictor.load(tmp_path / "model", made)
    texts, _, _ = questions(3, 20)
    assert (again.gain(texts) == trained().gain(texts)).all()
    with pytest.raises(UsageError, match="not those that were written"):
        GainPredictor.load(tmp_path / "model", "0" * 64)


def test_few_texts_are_refused() -> None:
    with pytest.raises(UsageError, match="needs 50 recorded texts, and has 10"):
        GainPredictor.trained(*questions(1, 10))


def test_the_average_recovered_gap_is_one_half_for_chance_and_best_for_an_oracle() -> None:
    chance = np.random.default_rng(1)
    weak, strong = (chance.random(20_000) < 0.7).astype(float), (chance.random(20_000) < 0.85).astype(float)
    assert average_recovered(chance.random(20_000), weak, strong) == pytest.approx(0.5, abs=0.03)
    oracle = strong - weak
    assert average_recovered(oracle, weak, strong) > 1
    assert average_recovered(-oracle, weak, strong) < 0
    curve = recovered(oracle, weak, strong)
    assert (curve[0], curve[-1]) == (0, pytest.approx(1))
    assert calls_needed(oracle, weak, strong, 1.0) < 0.2


def test_measures_of_odd_texts_are_numbers() -> None:
    for text in ("", " ", "1,234.5. 7, 9e99", "A. yes\nB. no\nAnswer:", "\ud800 ½ ²"):
        assert len(measures(text)) == len(measures("plain"))
        assert np.isfinite(measures(text)).all()
