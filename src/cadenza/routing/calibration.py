"""Confidence that means what it says, and the line below which nobody is chosen.

Everything is fitted to a validation set that the model has not been trained on. A text is out of scope if no skill fits
it; how often that is expected (``out_of_scope_share``) is the user's word, as a validation set seldom has the right
mix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cadenza.routing.embedding import library

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cadenza.routing.model_folder import Arrays

    Numbers = NDArray[np.floating[Any]]
    Flags = NDArray[np.bool_]

BINS = 15
TURNED_AWAY = 0.02  # of requests in scope, where no example of one out of scope is known


def probabilities(logits: Numbers, temperature: float = 1.0) -> Numbers:
    """Rows that sum to one."""
    import numpy as np

    made = np.exp((logits - logits.max(axis=1, keepdims=True)) / temperature)
    return made / made.sum(axis=1, keepdims=True)


def fitted_temperature(logits: Numbers, labels: NDArray[np.intp]) -> float:
    """What to divide logits by, so that the labels are least surprising: found by golden section from 1/50 to 50."""
    import numpy as np

    def surprise(log: float) -> float:
        found = probabilities(logits, float(np.exp(log)))[np.arange(len(labels)), labels]
        return float(-np.log(np.maximum(found, 1e-12)).mean())

    ratio, low, high = (5**0.5 - 1) / 2, float(np.log(0.02)), float(np.log(50))
    for _ in range(40):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if surprise(left) < surprise(right) else (left, high)
    return float(np.exp((low + high) / 2))


def calibration_error(confidence: Numbers, right: Flags, bins: int = BINS) -> float:
    """The expected calibration error: the mean distance of confidence and accuracy, over bins of equal width."""
    import numpy as np

    places = np.minimum((confidence * bins).astype(int), bins - 1)
    parts = [places == number for number in range(bins)]
    gaps = [abs(float(confidence[part].mean() - right[part].mean())) * part.sum() for part in parts if part.any()]
    return float(sum(gaps) / len(confidence))


@dataclass(frozen=True, slots=True)
class Scope:
    """Tells what is in scope from signals of the model: a logistic regression, and the line between.

    Attributes:
        mean, spread: of each signal; ``weights`` are of the signals in these units.
        line: with less probability than this to be in scope, nobody is chosen.
    """

    mean: Numbers
    spread: Numbers
    weights: Numbers
    bias: float
    line: float

    def probability(self, signals: Numbers) -> Numbers:
        """Of being in scope, for each row of signals."""
        import numpy as np

        return 1 / (1 + np.exp(-np.clip((signals - self.mean) / self.spread @ self.weights + self.bias, -40, 40)))

    def state(self) -> Arrays:
        import numpy as np

        rows = np.stack([self.mean, self.spread, self.weights])
        return {"scope": rows, "scope_line": np.array([self.bias, self.line])}

    @staticmethod
    def of_state(arrays: Arrays) -> Scope:
        return Scope(*arrays["scope"], *map(float, arrays["scope_line"]))

    @staticmethod
    def fitted(signals: Numbers, inside: Flags, right: Flags, share: float) -> Scope:
        """Fit to a validation set.

        Args:
            signals: a row a text; higher is more likely in scope, where ``inside`` has no false.
            inside: whether it is in scope.
            right: whether the model's best guess is right.
            share: of the requests to come that are out of scope.
        """
        import numpy as np

        mean, spread = signals.mean(axis=0), signals.std(axis=0) + 1e-9
        if inside.all() or not 0 < share < 1:
            first = (signals[:, 0] - mean[0]) / spread[0]
            weights = np.eye(1, signals.shape[1])[0]
            line = 1 / (1 + np.exp(-np.quantile(first, TURNED_AWAY)))
            return Scope(mean, spread, weights, 0.0, float(line))
        weight_inside, weight_outside = (1 - share) / inside.mean(), share / (~inside).mean()
        counts = inside * weight_inside + ~inside * weight_outside
        rows = (signals - mean) / spread
        fit: Any = _regression().fit(rows, inside, sample_weight=counts)
        line = best_line(_unseen(rows, inside, counts), inside, right, counts)
        return Scope(mean, spread, fit.coef_[0], float(fit.intercept_[0]), line)


def best_line(inside_probability: Numbers, inside: Flags, right: Flags, counts: Numbers) -> float:
    """The line with the most right decisions: a right guess in scope above it, anything out of scope below it."""
    import numpy as np

    order = np.argsort(inside_probability)
    below = np.concatenate([[0], np.cumsum((counts * ~inside)[order])])
    above = (counts * (inside & right)).sum() - np.concatenate([[0], np.cumsum((counts * (inside & right))[order])])
    sums = below + above
    width = max(1, len(order) // 100)  # the best of a smoothed curve: its top is noise
    smooth = np.convolve(np.pad(sums, width, mode="edge"), np.ones(2 * width + 1) / (2 * width + 1), mode="valid")
    place = int(smooth.argmax())
    edges = np.concatenate([[0.0], inside_probability[order], [1.0]])
    return float((edges[place] + edges[place + 1]) / 2)


def _regression() -> Any:
    return library("sklearn.linear_model", "the classifier").LogisticRegression(C=1.0, max_iter=1000)


def _unseen(rows: Numbers, inside: Flags, counts: Numbers) -> Numbers:
    """The probability of each row, by a fit to the other four fifths."""
    import numpy as np

    found = np.zeros(len(rows))
    fold = np.empty(len(rows), int)
    for kind in (inside, ~inside):
        fold[kind] = np.arange(kind.sum()) % 5
    for number in range(5):
        train, test = fold != number, fold == number
        if test.any() and len(set(inside[train])) == 2:
            fit: Any = _regression().fit(rows[train], inside[train], sample_weight=counts[train])
            found[test] = fit.predict_proba(rows[test])[:, 1]
    return found
