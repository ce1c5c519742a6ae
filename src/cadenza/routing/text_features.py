"""What a learned model reads of a text: its words and pieces of words (TF-IDF), and its vector.

Sparse rows are exact; dense rows are the sparse ones in fewer dimensions beside the vector, for models that need that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cadenza.routing.embedding import Embedder, library
from cadenza.routing.model_folder import Arrays

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cadenza.routing.embedding import Matrix

USER = "the classifier"
DIMENSIONS_MAX = 400
SCALE = 10.0  # unit rows of some hundred columns become columns of about one half: what a network likes
WORDS = {"ngram_range": (1, 2), "token_pattern": r"(?u)\b\w+\b"}
PIECES = {"ngram_range": (2, 5), "analyzer": "char_wb"}


@dataclass(frozen=True)
class TextFeatures:
    """The features, fitted to the texts of a training set.

    Attributes:
        words, pieces: the vocabularies, in the order of the columns; ``rarity`` has the weight of each.
        axes: from sparse columns to dense ones.
    """

    embedder: Embedder
    words: tuple[str, ...]
    pieces: tuple[str, ...]
    word_rarity: NDArray[np.float32]
    piece_rarity: NDArray[np.float32]
    axes: Matrix

    @staticmethod
    def fitted(texts: Sequence[str], embedder: Embedder, seed: int) -> TextFeatures:
        """Learn the vocabularies, the rarity of each entry, and the axes."""
        sparse, decomposition = library("scipy.sparse", USER), library("sklearn.decomposition", USER)
        import numpy as np

        few = len(texts) < 500  # where a word is seen once, it may still be all there is to go by
        made: list[Any] = [vectorizer(WORDS, 1 if few else 2), vectorizer(PIECES, 1 if few else 3)]
        columns: Any = sparse.hstack([each.fit_transform(texts) for each in made]).tocsr().astype(np.float32)
        dimensions = max(1, min(DIMENSIONS_MAX, min(columns.shape) - 1))
        reduction = decomposition.TruncatedSVD(dimensions, n_iter=2, random_state=seed).fit(columns)
        words, pieces = (tuple(map(str, each.get_feature_names_out())) for each in made)
        rarities = [each.idf_.astype(np.float32) for each in made]
        return TextFeatures(
            embedder, words, pieces, rarities[0], rarities[1], np.ascontiguousarray(reduction.components_.T)
        )

    @cached_property
    def _vectorizers(self) -> list[Any]:
        return [
            vectorizer(WORDS, 1, self.words, self.word_rarity),
            vectorizer(PIECES, 1, self.pieces, self.piece_rarity),
        ]

    def read(self, texts: Sequence[str]) -> Read:
        """The features of texts."""
        import numpy as np

        sparse = library("scipy.sparse", USER)
        vectors = self.embedder.embed(texts)
        parts = [each.transform(texts) for each in self._vectorizers]
        columns = sparse.hstack(parts).tocsr().astype(np.float32)
        dense = np.hstack([columns @ self.axes, vectors]).astype(np.float32) * np.float32(SCALE)
        exact = sparse.hstack([columns, sparse.csr_matrix(vectors)]).tocsr()
        return Read(exact, dense, vectors)

    def state(self) -> tuple[dict[str, Any], Arrays]:
        """What ``of_state`` makes it from again: plain values, and arrays."""
        plain = {"words": self.words, "pieces": self.pieces, "embedder": [self.embedder.name, self.embedder.version]}
        return plain, {"word_rarity": self.word_rarity, "piece_rarity": self.piece_rarity, "axes": self.axes}

    @staticmethod
    def of_state(plain: dict[str, Any], arrays: Arrays, embedder: Embedder) -> TextFeatures:
        """The features that ``state`` was called of; ``embedder`` is the one that it names."""
        rarities = arrays["word_rarity"], arrays["piece_rarity"]
        return TextFeatures(embedder, tuple(plain["words"]), tuple(plain["pieces"]), *rarities, arrays["axes"])


@dataclass(frozen=True, slots=True)
class Read:
    """The features of some texts: ``exact`` (a sparse row a text), ``dense``, and ``vectors`` (of the embedder)."""

    exact: Any
    dense: Matrix
    vectors: Matrix


def vectorizer(kind: dict[str, Any], seen_min: int, vocabulary: Sequence[str] | None = None, rarity: Any = None) -> Any:
    """A reader of TF-IDF: to be fitted, without what fewer than ``seen_min`` texts have; or one that was fitted."""
    made = library("sklearn.feature_extraction.text", USER).TfidfVectorizer(
        **kind, sublinear_tf=True, min_df=seen_min, vocabulary=None if vocabulary is None else [*vocabulary]
    )
    if rarity is not None:
        made.idf_ = rarity
    return made
