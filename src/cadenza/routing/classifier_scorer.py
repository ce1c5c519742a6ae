"""The scorer "classifier": what the trained classifier of the store says of the skills of each candidate."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence

from cadenza.engine.catalogue import Catalogue, current_catalogue
from cadenza.errors import UsageError
from cadenza.routing.choice import Score
from cadenza.routing.classifier import Guess, SkillClassifier
from cadenza.routing.need import Need
from cadenza.routing.score import Scorer, rule_weights, scorers
from cadenza.routing.semantic import Carded, wanted_text
from cadenza.routing.skill_training import current

WEIGHT = 4.0
NOTHING = Score(None)


class ClassifierScorer:
    """The probability of the best skill of each candidate; nothing for skills that it was not trained on.

    It uses the model that was registered last in the store of the run. ``known`` has the confidence, which is
    calibrated: a choice abstains by it (``Need.abstain_below``).

    Args:
        model: is used wherever it runs, instead of the store's.
    """

    name = "classifier"

    def __init__(self, model: SkillClassifier | None = None) -> None:
        self._given = model
        self._loaded: tuple[str, SkillClassifier] | None = None
        self._lock = threading.Lock()

    @property
    def version(self) -> str:
        """Of the way to score; with the hash of the model that scored last."""
        return f"1 {self._loaded[0][:12]}" if self._loaded else "1"

    def score(
        self, need: Need, text: str, candidates: Sequence[Carded], draw: random.Random, now: int
    ) -> Sequence[Score]:
        """One score for each candidate. Raises UsageError: the model's folder is damaged; StoreError."""
        wanted = wanted_text(need, text)
        model = self._given or self._of(current_catalogue.get(None))
        if model is None or not wanted or not candidates:
            return [NOTHING] * len(candidates)
        [guess] = model.guess([wanted])
        odds = dict(guess.odds)
        trained = set(model.skills)
        by_card: dict[int, Score] = {}
        for each in candidates:
            if id(each.card) not in by_card:
                known = [skill.id for skill in each.card.skills if skill.id in trained]
                by_card[id(each.card)] = _score(known, odds, guess)
        return [by_card[id(each.card)] for each in candidates]

    def _of(self, catalogue: Catalogue | None) -> SkillClassifier | None:
        trained = current(catalogue) if catalogue else None
        if trained is None:
            return None
        with self._lock:
            if self._loaded is None or self._loaded[0] != trained.sha256:
                self._loaded = trained.sha256, SkillClassifier.load(trained.folder, trained.sha256)
            return self._loaded[1]


def use_classifier(model: SkillClassifier | None = None, weight: float = WEIGHT) -> None:
    """Let the trained classifier take part in every choice of this process.

    Args:
        model: this one; by default the one that ``cadenza agents train`` has registered in the store of the run.
        weight: beside those of the presets; ``Need.weights`` can say otherwise.

    Raises:
        UsageError: the weight is no number from 0 up.
    """
    if not 0 <= weight < float("inf"):
        raise UsageError(f"a weight is a number from 0 up, not {weight}")
    made: Scorer = ClassifierScorer(model)
    scorers["classifier"], rule_weights["classifier"] = made, weight


def _score(skills: Sequence[str], odds: dict[str, float], guess: Guess) -> Score:
    if not skills:
        return NOTHING
    value = round(max(odds.get(skill, 0.0) for skill in skills) * guess.in_scope, 4)
    return Score(value, {"confidence": 0.0 if guess.abstains else value, "in_scope": round(guess.in_scope, 4)})
