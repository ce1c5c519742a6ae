"""Whether the scorer "semantic" goes by words in common (the default) or by what texts mean (the extra ``routing``)."""

from __future__ import annotations

from cadenza.routing.score import scorers


def use_embeddings(model: str = "wordllama") -> None:
    """Let the scorer "semantic" compare vectors in this process from now on.

    Args:
        model: ``wordllama``, in this process and without a network, or ``provider:model`` as for agents.

    Raises:
        ModelUnavailable: the extra, or the model, is missing; the message says what to install or to set.
    """
    from cadenza.routing.embedding import embedder
    from cadenza.routing.semantic import SemanticScorer

    scorers["semantic"] = SemanticScorer(embedder(model))
