"""Is the strong model needed? Learned from recorded outcomes, so that a cascade may begin where it would end.

What is predicted is the gain: the probability that the strong model is right, less that of the weak one. Three views of
a text vote: its words (a ridge regression on TF-IDF), its measures (lengths, numbers, turns of phrase), and its nearest
neighbours among the recorded ones. Their weights come from predictions, within the training set, of unseen texts.

Source of the measure: RouteLLM (Ong et al., 2024), section 4: the recovered gap, its average over the share of strong
calls (APGR), and the share that recovers a given part of it (CPT).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cadenza.errors import UsageError
from cadenza.routing import model_folder
from cadenza.routing.embedding import Embedder, embedder, library, require_extra
from cadenza.routing.text_features import WORDS, vectorizer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cadenza.routing.calibration import Numbers
    from cadenza.routing.embedding import Matrix

KIND = "difficulty"
TEXTS_MIN = 50
NEIGHBOURS = 100
SHARPNESS = 8.0  # of a neighbour's weight: e to this much times its cosine
WORD_PENALTY, MEASURE_PENALTY = 10.0, 30.0
FOLDS = 3
NUMBER = re.compile(r"\d[\d,]*\.?\d*")
OPTION = re.compile(r"^[A-H][.)] (.*)$", re.M)
PHRASES = (
    "not|except", "which", "if", "each|every|per", "more", "less|fewer", "than", "half|third|quarter", "twice|double",
    "times", "total", "left|remain", "how many", "how much", "percent", "average", "statement", "true", "false",
    "following", "most", "best", "he|his", "she|her", "they|their", "days?|weeks?", "hours?|minutes?",
)  # fmt: skip
COUNTED = tuple(re.compile(rf"\b(?:{phrase})\b", re.I) for phrase in PHRASES)
MARKS = tuple(re.compile(mark) for mark in (r"\.", ",", r"\?", "%", r"\$", "/", r"[=+*^<>\\{}]", r"\d+\.\d+", "__"))


@dataclass(frozen=True)
class GainPredictor:
    """A trained predictor of the strong model's gain.

    Attributes:
        words, rarity, word_slopes: of the regression on words.
        centre, spread, measure_slopes: of the regression on measures.
        known, known_gains: vectors of the recorded texts, and what was gained on each.
        votes: the weight of each view; ``bias`` is added.
        seen: predictions of texts that were not trained on, in order: where a new one stands among them.
    """

    embedder: Embedder
    words: tuple[str, ...]
    rarity: NDArray[np.float32]
    word_slopes: NDArray[np.float32]
    centre: Numbers
    spread: Numbers
    measure_slopes: Numbers
    known: Matrix
    known_gains: Numbers
    votes: Numbers
    bias: float
    seen: Numbers

    @staticmethod
    def trained(
        texts: Sequence[str],
        weak: Sequence[float] | Numbers,
        strong: Sequence[float] | Numbers,
        model: Embedder | None = None,
    ) -> GainPredictor:
        """Train on recorded outcomes.

        Args:
            weak, strong: how good each answer was, 0 to 1, in the order of the texts.

        Raises:
            UsageError: fewer than fifty texts.
            ModelUnavailable: the extra ``routing`` is not installed.
        """
        require_extra("the predictor of difficulty")
        import numpy as np

        if len(texts) < TEXTS_MIN:
            raise UsageError(f"a predictor of difficulty needs {TEXTS_MIN} recorded texts, and has {len(texts)}")
        model = model or embedder()
        gains = np.asarray(strong, float) - np.asarray(weak, float)
        numbers, views = _measured(texts), np.zeros((len(texts), 3))
        for number in range(FOLDS):
            train = [place for place in range(len(texts)) if place % FOLDS != number]
            test = range(number, len(texts), FOLDS)
            part = _fitted([texts[place] for place in train], numbers[train], gains[train], model)
            views[test] = part._views([texts[place] for place in test], numbers[test])
        centred = views - views.mean(axis=0)
        votes = library("scipy.optimize", KIND).nnls(centred, gains - gains.mean())[0]
        bias = float(gains.mean() - views.mean(axis=0) @ votes)
        whole = _fitted(texts, numbers, gains, model)
        return whole._with(votes, bias, np.sort(views @ votes + bias))

    def gain(self, texts: Sequence[str]) -> Numbers:
        """How much more likely the strong model is right, for each text."""
        return self._views(texts, _measured(texts)) @ self.votes + self.bias

    def line(self, share: float) -> float:
        """The gain above which a text goes to the strong model, so that about this share of them do."""
        import numpy as np

        return float(np.quantile(self.seen, 1 - share))

    def save(self, folder: Path) -> str:
        """Write it to a folder; returns its hash. Raises OSError."""
        import numpy as np

        arrays = {name: getattr(self, name) for name in ARRAYS} | {"bias": np.array([self.bias])}
        plain = {"words": self.words, "embedder": [self.embedder.name, self.embedder.version]}
        return model_folder.save(folder, KIND, plain, arrays)

    @staticmethod
    def load(folder: Path, sha256: str = "", model: Embedder | None = None) -> GainPredictor:
        """Read what ``save`` wrote. Raises UsageError, ModelUnavailable."""
        require_extra("the predictor of difficulty")
        plain, arrays = model_folder.load(folder, KIND, sha256)
        model = model_folder.embedder_of(plain, folder, model)
        bias = float(arrays.pop("bias")[0])
        return GainPredictor(model, tuple(plain["words"]), bias=bias, **arrays)

    def _views(self, texts: Sequence[str], numbers: Numbers) -> Numbers:
        import numpy as np

        words = vectorizer(WORDS, 1, self.words, self.rarity).transform(texts) @ self.word_slopes
        measured = (numbers - self.centre) / self.spread @ self.measure_slopes
        return np.stack([words, measured, self._neighbours(self.embedder.embed(texts))], axis=1)

    def _neighbours(self, vectors: Matrix) -> Numbers:
        import numpy as np

        count = min(NEIGHBOURS, len(self.known))
        parts: list[Numbers] = []
        for start in range(0, len(vectors), 1000):
            cosines = vectors[start : start + 1000] @ self.known.T
            near = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
            weights = np.exp(SHARPNESS * np.take_along_axis(cosines, near, axis=1))
            parts.append((weights * self.known_gains[near]).sum(axis=1) / weights.sum(axis=1))
        return np.concatenate(parts)

    def _with(self, votes: Numbers, bias: float, seen: Numbers) -> GainPredictor:
        from dataclasses import replace

        return replace(self, votes=votes, bias=bias, seen=seen)


ARRAYS = (
    "rarity", "word_slopes", "centre", "spread", "measure_slopes", "known", "known_gains", "votes", "seen",
)  # fmt: skip


def measures(text: str) -> list[float]:
    """Numbers that say something of how hard a text is."""
    words, numbers, options = text.split(), NUMBER.findall(text), [len(each) for each in OPTION.findall(text)]
    largest = max((float(plain) for each in numbers if (plain := each.replace(",", "").rstrip("."))), default=0.0)
    mean = sum(options) / len(options) if options else 0.0
    return [
        math.log1p(len(text)),
        math.log1p(len(words)),
        sum(map(len, words)) / max(1, len(words)),
        len(numbers),
        len(set(numbers)),
        math.log1p(min(largest, 1e12)),
        len(options),
        sum(options),
        max(options, default=0),
        min(options, default=0),
        math.sqrt(sum((each - mean) ** 2 for each in options) / len(options)) if options else 0.0,
        sum(map(str.isupper, text)) / max(1, len(text)),
        *(len(each.findall(text)) for each in (*MARKS, *COUNTED)),
    ]


def _measured(texts: Sequence[str]) -> Numbers:
    import numpy as np

    return np.array([measures(text) for text in texts])


def _fitted(texts: Sequence[str], numbers: Numbers, gains: Numbers, model: Embedder) -> GainPredictor:
    """Trained, with no weights of the views yet."""
    import numpy as np

    ridge: Any = library("sklearn.linear_model", KIND).Ridge
    reader = vectorizer(WORDS, 2)
    rows = reader.fit_transform(texts)
    by_words = ridge(alpha=WORD_PENALTY, solver="sparse_cg", fit_intercept=False).fit(rows, gains - gains.mean())
    centre, spread = numbers.mean(axis=0), numbers.std(axis=0) + 1e-9
    by_measures = ridge(alpha=MEASURE_PENALTY, fit_intercept=False).fit((numbers - centre) / spread, gains)
    return GainPredictor(
        model,
        tuple(map(str, reader.get_feature_names_out())),
        reader.idf_.astype(np.float32),
        by_words.coef_.astype(np.float32),
        centre,
        spread,
        by_measures.coef_,
        model.embed(texts),
        gains,
        np.ones(3),
        0.0,
        np.zeros(1),
    )


# --- what a predictor is worth ----------------------------------------------------------------------------------------


def recovered(scores: Numbers, weak: Numbers, strong: Numbers) -> Numbers:
    """The gap recovered when the strong model takes none, one, two, … of the texts, by falling score.

    Returns:
        One number more than there are texts: from 0 (always weak) to 1 (always strong); it may be more in between.
    """
    import numpy as np

    gains = (np.asarray(strong, float) - np.asarray(weak, float))[np.argsort(-scores, kind="stable")]
    return np.concatenate([[0.0], np.cumsum(gains)]) / gains.sum()


def average_recovered(scores: Numbers, weak: Numbers, strong: Numbers) -> float:
    """APGR: the mean of the recovered gap over all shares of strong calls; one half for chance."""
    import numpy as np

    curve = recovered(scores, weak, strong)
    return float(np.trapezoid(curve, dx=1 / (len(curve) - 1)))


def calls_needed(scores: Numbers, weak: Numbers, strong: Numbers, part: float) -> float:
    """CPT: the smallest share of strong calls that recovers this part of the gap."""
    import numpy as np

    curve = recovered(scores, weak, strong)
    return float(np.argmax(curve >= part) / (len(curve) - 1))
