"""A small neural network: one hidden layer, dropout, smoothed labels, Adam with a falling rate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cadenza.routing.model_folder import Arrays

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cadenza.routing.embedding import Matrix


@dataclass(frozen=True, slots=True)
class NetworkOptions:
    """How a network is trained.

    Attributes:
        steps_min: epochs are added until there are as many steps, for small training sets.
        drop, drop_inputs: the share of hidden values and of inputs that a step does not see.
        smoothing: the share of a label that is spread over all labels.
    """

    hidden: int = 512
    epochs: int = 15
    steps_min: int = 600
    batch: int = 128
    rate: float = 0.002
    drop: float = 0.5
    drop_inputs: float = 0.2
    smoothing: float = 0.1


@dataclass(frozen=True, slots=True)
class Network:
    """Two layers of weights: ``inward`` and ``outward``, each with its bias."""

    inward: Matrix
    inward_bias: Matrix
    outward: Matrix
    outward_bias: Matrix

    def logits(self, rows: Matrix) -> Matrix:
        """One row of unnormalised log-probabilities for each row."""
        import numpy as np

        return np.maximum(rows @ self.inward + self.inward_bias, 0) @ self.outward + self.outward_bias

    def state(self) -> Arrays:
        return {name: getattr(self, name) for name in ("inward", "inward_bias", "outward", "outward_bias")}

    @staticmethod
    def trained(
        rows: Matrix, labels: NDArray[np.intp], classes: int, seed: int, options: NetworkOptions | None = None
    ) -> Network:
        """Train a network; the same seed and rows give the same one on the same machine."""
        import numpy as np

        options, chance = options or NetworkOptions(), np.random.default_rng(seed)
        wide = rows.shape[1]
        weights = [
            chance.normal(0, wide**-0.5, (wide, options.hidden)).astype(np.float32),
            np.zeros(options.hidden, np.float32),
            chance.normal(0, options.hidden**-0.5, (options.hidden, classes)).astype(np.float32),
            np.zeros(classes, np.float32),
        ]
        adam = [(np.zeros_like(each), np.zeros_like(each)) for each in weights]
        batches = [*_batches(len(rows), options, chance)]
        for step, picked in enumerate(batches):
            rate = options.rate * (1 - step / len(batches)) * (1 - 0.999 ** (step + 1)) ** 0.5 / (1 - 0.9 ** (step + 1))
            slopes = _slopes(weights, rows[picked], labels[picked], options, chance)
            for weight, slope, (mean, square) in zip(weights, slopes, adam, strict=True):
                mean += np.float32(0.1) * (slope - mean)
                square += np.float32(0.001) * (slope * slope - square)
                weight -= np.float32(rate) * mean / (np.sqrt(square) + np.float32(1e-8))
        return Network(*weights)


def _batches(count: int, options: NetworkOptions, chance: Any) -> Iterator[Any]:
    per_epoch = -(-count // options.batch)
    for _ in range(max(options.epochs, -(-options.steps_min // per_epoch))):
        order = chance.permutation(count)
        yield from (order[start : start + options.batch] for start in range(0, count, options.batch))


def _slopes(weights: list[Any], rows: Any, labels: Any, options: NetworkOptions, chance: Any) -> list[Any]:
    """The gradients of the mean cross-entropy of a batch."""
    import numpy as np

    def kept(shape: tuple[int, ...], dropped: float) -> Any:
        return (chance.random(shape, dtype=np.float32) >= dropped) * np.float32(1 / (1 - dropped))

    inward, inward_bias, outward, outward_bias = weights
    seen = rows * kept(rows.shape, options.drop_inputs)
    hidden = seen @ inward + inward_bias
    mask = (hidden > 0) * kept(hidden.shape, options.drop)
    hidden *= mask
    logits = hidden @ outward + outward_bias
    error = np.exp(logits - logits.max(axis=1, keepdims=True))
    error /= error.sum(axis=1, keepdims=True)
    error -= np.float32(options.smoothing / logits.shape[1])
    error[np.arange(len(labels)), labels] -= np.float32(1 - options.smoothing)
    error /= np.float32(len(labels))
    back = (error @ outward.T) * mask
    return [seen.T @ back, back.sum(axis=0), hidden.T @ error, error.sum(axis=0)]
