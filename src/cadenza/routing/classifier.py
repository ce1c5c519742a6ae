"""A learned classifier of skills: which skill a text asks for, how sure that is, and whether any skill fits at all.

Three models vote: a linear support vector machine on exact features, and two small networks on dense ones. A
temperature makes their vote a probability, and a logistic regression on signals (how sure, how far ahead, how near to
texts that are known) says whether the text is in scope. Both are fitted to a validation set.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cadenza.errors import UsageError
from cadenza.routing import model_folder
from cadenza.routing.calibration import Scope, fitted_temperature, probabilities
from cadenza.routing.embedding import Embedder, embedder, library, require_extra
from cadenza.routing.network import Network, NetworkOptions
from cadenza.routing.text_features import Read, TextFeatures

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cadenza.routing.embedding import Matrix

KIND = "skill classifier"
NETWORKS = 2
NEIGHBOURS = 10
NEIGHBOURS_KEPT_MAX = 20_000  # texts whose vectors are kept, for telling what is near to nothing
EXAMPLES_MIN = 4  # of a skill


@dataclass(frozen=True, slots=True)
class Example:
    """A text, and the skill that it asks for; "" where no skill fits it."""

    text: str
    skill: str


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """How a classifier is trained.

    Attributes:
        out_of_scope_share: of the requests to come that no skill fits.
        seed: of everything that is drawn.
        penalty: of the support vector machine's errors.
    """

    out_of_scope_share: float = 0.1
    seed: int = 1
    penalty: float = 0.5
    network: NetworkOptions = NetworkOptions()  # noqa: RUF009 - it is frozen


@dataclass(frozen=True, slots=True)
class Guess:
    """What the classifier says of a text.

    Attributes:
        skill: the best; also where it abstains.
        confidence: that the best skill is right, 0 to 1: that it fits, and that any does.
        in_scope: the probability that any skill fits.
        abstains: whether ``in_scope`` is below the line that was found in training.
        odds: of each skill, best first, if any fits; the first ten.
    """

    skill: str
    confidence: float
    in_scope: float
    abstains: bool
    odds: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class SkillClassifier:
    """A trained classifier: ``trained`` makes one, ``save`` and ``load`` keep it.

    Attributes:
        skills: in alphabetical order; the columns of ``odds``.
        slopes, offsets: of the support vector machine.
        scales: of the votes: what each model's scores are divided by.
        known, known_skills: vectors of training texts, and the places of their skills.
    """

    skills: tuple[str, ...]
    features: TextFeatures
    slopes: Matrix
    offsets: Matrix
    networks: tuple[Network, ...]
    scales: Matrix
    temperature: float
    known: Matrix
    known_skills: NDArray[np.intp]
    scope: Scope

    @staticmethod
    def trained(
        examples: Sequence[Example],
        validation: Sequence[Example] = (),
        options: TrainingOptions | None = None,
        model: Embedder | None = None,
    ) -> SkillClassifier:
        """Train on examples and calibrate on the validation set.

        Args:
            examples: those out of scope are used with the validation set: nothing is trained on them but the line.
            validation: empty takes a fifth of the examples for it, and trains once more on all of them afterwards.
            model: the embedder; the local one by default.

        Raises:
            UsageError: fewer than two skills, or a skill with fewer than four examples.
            ModelUnavailable: the extra ``routing`` is not installed.
        """
        require_extra("the classifier")
        options, model = options or TrainingOptions(), model or embedder()
        _check(examples, given=bool(validation))
        train, rest = (examples, validation) if validation else held_out(examples)
        outside = [each for each in train if not each.skill]
        tuned = _fitted(train, options, model)._tuned([*rest, *outside], options)
        if validation:
            return tuned
        return replace(_fitted(examples, options, model), temperature=tuned.temperature, scope=tuned.scope)

    def odds(self, texts: Sequence[str]) -> tuple[NDArray[Any], NDArray[Any]]:
        """The probability of each skill if any fits (a row a text), and the probability that any fits."""
        votes, read = self._votes(texts)
        return probabilities(_summed(votes), self.temperature), self.scope.probability(self._signals(votes, read))

    def guess(self, texts: Sequence[str]) -> list[Guess]:
        """What each text asks for."""
        if not texts:
            return []
        odds, inside = self.odds(texts)
        best: list[list[int]] = (-odds).argsort(axis=1)[:, :10].tolist()
        return [
            Guess(
                self.skills[places[0]],
                float(row[places[0]] * chance),
                float(chance),
                bool(chance < self.scope.line),
                tuple((self.skills[place], float(row[place])) for place in places),
            )
            for row, places, chance in zip(odds, best, inside, strict=True)
        ]

    def save(self, folder: Path) -> str:
        """Write it to a folder; returns its hash. Raises OSError."""
        import numpy as np

        plain, arrays = self.features.state()
        for number, network in enumerate(self.networks):
            arrays |= {f"network_{number}_{name}": array for name, array in network.state().items()}
        arrays |= {"slopes": self.slopes, "offsets": self.offsets, "scales": self.scales, "known": self.known}
        arrays |= {"known_skills": self.known_skills, "temperature": np.array([self.temperature])}
        plain |= {"skills": self.skills, "networks": len(self.networks)}
        return model_folder.save(folder, KIND, plain, arrays | self.scope.state())

    @staticmethod
    def load(folder: Path, sha256: str = "", model: Embedder | None = None) -> SkillClassifier:
        """Read what ``save`` wrote.

        Raises:
            UsageError: it is missing or damaged, or it was trained on the vectors of another embedder.
            ModelUnavailable: the extra ``routing`` is not installed.
        """
        require_extra("the classifier")
        plain, arrays = model_folder.load(folder, KIND, sha256)
        model = model_folder.embedder_of(plain, folder, model)
        networks = tuple(
            Network(*(arrays[f"network_{number}_{part}"] for part in Network.__slots__))
            for number in range(plain["networks"])
        )
        return SkillClassifier(
            tuple(plain["skills"]),
            TextFeatures.of_state(plain, arrays, model),
            arrays["slopes"],
            arrays["offsets"],
            networks,
            arrays["scales"],
            float(arrays["temperature"][0]),
            arrays["known"],
            arrays["known_skills"],
            Scope.of_state(arrays),
        )

    def _votes(self, texts: Sequence[str]) -> tuple[list[NDArray[Any]], Read]:
        read = self.features.read(texts)
        scores = [read.exact @ self.slopes.T + self.offsets, *(each.logits(read.dense) for each in self.networks)]
        return [score / scale for score, scale in zip(scores, self.scales, strict=True)], read

    def _tuned(self, validation: Sequence[Example], options: TrainingOptions) -> SkillClassifier:
        """The same with its temperature, then its line."""
        import numpy as np

        places = {skill: place for place, skill in enumerate(self.skills)}
        validation = [each for each in validation if not each.skill or each.skill in places]
        votes, read = self._votes([each.text for each in validation])
        labels = np.array([places.get(each.skill, -1) for each in validation])
        inside, total = labels >= 0, _summed(votes)
        tuned = replace(self, temperature=fitted_temperature(total[inside], labels[inside]))
        right = total.argmax(axis=1) == labels
        return replace(
            tuned, scope=Scope.fitted(tuned._signals(votes, read), inside, right, options.out_of_scope_share)
        )

    def _signals(self, votes: list[NDArray[Any]], read: Read) -> NDArray[Any]:
        """What tells whether a text is in scope: each is higher where it is."""
        import numpy as np

        total = _summed(votes)
        odds = probabilities(total, self.temperature)
        best = total.argmax(axis=1)
        cosines = read.vectors @ self.known.T
        count = min(NEIGHBOURS, cosines.shape[1])
        near = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
        nearest = np.take_along_axis(cosines, near, axis=1)
        return np.stack(
            [
                odds.max(axis=1),
                np.log(odds.max(axis=1) + 1e-9),
                _ahead(total),
                (odds * np.log(odds + 1e-12)).sum(axis=1),
                np.logaddexp.reduce(total / self.temperature, axis=1) * self.temperature,
                votes[0].max(axis=1),
                _ahead(votes[0]),
                votes[-1].max(axis=1),
                nearest.max(axis=1),
                nearest.mean(axis=1),
                (self.known_skills[near] == best[:, None]).mean(axis=1),
                np.mean([vote.argmax(axis=1) == best for vote in votes], axis=0),
            ],
            axis=1,
        )


def split_hash(*parts: Sequence[Example]) -> str:
    """Names a split of data: who trains on the same texts gets the same twelve digits."""
    made = hashlib.sha256()
    for part in parts:
        made.update(b"part")
        for each in sorted((each.skill, each.text) for each in part):
            made.update(repr(each).encode())
    return made.hexdigest()[:12]


def held_out(examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """Four fifths and one fifth of each skill's examples, by the hash of the text."""

    def key(each: Example) -> str:
        return hashlib.sha256(each.text.encode("utf-8", "surrogatepass")).hexdigest()

    train: list[Example] = []
    rest: list[Example] = []
    for skill in sorted({each.skill for each in examples}):
        own = sorted((each for each in examples if each.skill == skill), key=key)
        count = max(1, len(own) // 5)
        rest += own[:count]
        train += own[count:]
    return train, rest


def _check(examples: Sequence[Example], *, given: bool) -> None:
    counts = Counter(each.skill for each in examples if each.skill)
    if len(counts) < 2:
        raise UsageError(f"a classifier needs examples of two skills or more, and has them of {len(counts)}")
    skill, count = min(counts.items(), key=lambda item: item[1])
    if not given and count < EXAMPLES_MIN:
        raise UsageError(f"a classifier needs {EXAMPLES_MIN} examples of each skill, and has {count} of {skill!r}")


def _fitted(examples: Sequence[Example], options: TrainingOptions, model: Embedder) -> SkillClassifier:
    """Trained, and neither its temperature nor its line found."""
    import numpy as np

    examples = [each for each in examples if each.skill]
    texts = [each.text for each in examples]
    skills = tuple(sorted({each.skill for each in examples}))
    labels = np.array([skills.index(each.skill) for each in examples])
    features = TextFeatures.fitted(texts, model, options.seed)
    read = features.read(texts)
    support = library("sklearn.svm", "the classifier").LinearSVC(C=options.penalty, random_state=options.seed)
    machine = support.fit(read.exact, labels)
    slopes, offsets = machine.coef_.astype(np.float32), machine.intercept_.astype(np.float32)
    if len(skills) == 2:  # one plane tells two skills apart
        slopes, offsets = np.concatenate([-slopes, slopes]), np.concatenate([-offsets, offsets])
    networks = tuple(
        Network.trained(read.dense, labels, len(skills), options.seed + number, options.network)
        for number in range(NETWORKS)
    )
    spreads = [np.std(read.exact @ slopes.T + offsets), *(np.std(each.logits(read.dense)) for each in networks)]
    kept = np.random.default_rng(options.seed).permutation(len(texts))[:NEIGHBOURS_KEPT_MAX]
    nothing = Scope(np.zeros(1), np.ones(1), np.zeros(1), 0.0, 0.0)
    known, known_skills = read.vectors[kept], labels[kept]
    scales = np.array(spreads, np.float32)
    return SkillClassifier(skills, features, slopes, offsets, networks, scales, 1.0, known, known_skills, nothing)


def _summed(votes: list[NDArray[Any]]) -> NDArray[Any]:
    import numpy as np

    return np.sum(votes, axis=0)


def _ahead(scores: NDArray[Any]) -> NDArray[Any]:
    """How far the best is ahead of the second."""
    import numpy as np

    two = np.partition(scores, -2, axis=1)
    return two[:, -1] - two[:, -2]
