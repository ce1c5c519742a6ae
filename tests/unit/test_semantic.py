"""Embedders and the semantic scorer: with the packaged vectors, and with a provider's server."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
import random
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from cadenza.agents.card import Card, Skill
from cadenza.errors import ModelUnavailable, UsageError
from cadenza.routing.embedding import ProviderVectors, Remembering, WordVectors, embedder, unit
from cadenza.routing.need import Need
from cadenza.routing.semantic import SemanticScorer

RANDOM = random.Random(1)


@dataclass(frozen=True)
class Known:
    card: Card


def of(name: str, description: str, *examples: str) -> Known:
    return Known(Card(name, skills=(Skill(name, description, examples=examples),)))


FLEET = [
    of("semantic_bank", "Transfers money between bank accounts", "send 20 dollars to Ann"),
    of("semantic_weather", "Says what the weather will be", "will it rain tomorrow"),
    of("semantic_translate", "Translates a text into another language", "how do you say hello in French"),
]


class Counting:
    """An embedder that counts the texts that it is asked for."""

    name, version, remote = "counting", "1", False

    def __init__(self) -> None:
        self.asked: list[str] = []

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        self.asked += texts
        return unit(np.array([[len(text), text.count("a"), 1] for text in texts], np.float32).reshape(-1, 3))


def best(scorer: SemanticScorer, need: Need, text: str, fleet: Sequence[Known] = FLEET) -> str:
    scores = scorer.score(need, text, fleet, RANDOM, 0)
    values = [score.value or 0.0 for score in scores]
    return fleet[values.index(max(values))].card.name


def test_vectors_have_length_one_and_a_text_without_words_has_none() -> None:
    rows = embedder().embed(["send money", "will it rain?", ""])
    assert rows.dtype == np.float32
    assert np.allclose(np.linalg.norm(rows, axis=1), [1, 1, 0], atol=1e-5)
    assert embedder().embed([]).shape == (0, rows.shape[1])


def test_loading_the_vectors_leaves_the_logging_of_the_process_alone() -> None:
    script = (
        "import logging; from cadenza.routing.embedding import embedder; embedder();"
        "print(logging.getLogger().handlers, logging.getLogger().level)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"[] {logging.WARNING}"


def test_a_text_is_embedded_once_while_it_is_remembered() -> None:
    counting = Counting()
    remembering = Remembering(counting, bytes_max=3 * 12)
    first = remembering.embed(["a", "b", "a"])
    assert counting.asked == ["a", "b"]
    assert (first[0] == first[2]).all()
    remembering.embed(["b", "a", "c"])
    assert counting.asked == ["a", "b", "c"]
    remembering.embed(["d"])  # pushes out the one that was used longest ago
    remembering.embed(["a", "c", "d"])
    assert counting.asked == ["a", "b", "c", "d"]
    remembering.embed(["b"])
    assert counting.asked == ["a", "b", "c", "d", "b"]


def test_the_candidate_that_says_what_is_wanted_scores_best() -> None:
    scorer = SemanticScorer()
    assert best(scorer, Need(), "please move 100 euros to my savings account") == "semantic_bank"
    assert best(scorer, Need(), "is it going to be sunny in Rome?") == "semantic_weather"
    assert best(scorer, Need(description="translate from Spanish"), "will it rain?") == "semantic_translate"


def test_scores_are_given_in_the_order_of_the_candidates() -> None:
    scorer, need = SemanticScorer(), Need(description="transfer money")
    forwards = scorer.score(need, "", FLEET, RANDOM, 0)
    backwards = scorer.score(need, "", FLEET[::-1], RANDOM, 0)
    alone = [scorer.score(need, "", [each], RANDOM, 0)[0] for each in FLEET]
    assert [*forwards] == [*backwards][::-1] == alone
    assert all(score.value is not None and 0 <= score.value <= 1 for score in forwards)
    assert forwards[0].known == {"cosine": forwards[0].value}


def test_of_many_skills_the_best_one_counts() -> None:
    many = Known(Card("semantic_many", skills=tuple(skill for each in FLEET for skill in each.card.skills)))
    need = Need(description="how will the weather be")
    together = SemanticScorer().score(need, "", [many, FLEET[1], *[FLEET[0]] * 20], RANDOM, 0)
    few_of_many = SemanticScorer()
    few_of_many.score(need, "", [of(f"semantic_{n}", f"number {n}") for n in range(40)], RANDOM, 0)
    assert few_of_many.score(need, "", [many, FLEET[1]], RANDOM, 0) == [*together[:2]]
    assert together[0] == together[1]


def test_a_request_without_words_gets_no_score() -> None:
    assert [score.value for score in SemanticScorer().score(Need(), "  ", FLEET, RANDOM, 0)] == [None] * 3
    assert SemanticScorer().score(Need(), "anything", [], RANDOM, 0) == []


def test_only_cards_that_are_new_are_embedded() -> None:
    counting = Counting()
    scorer = SemanticScorer(counting)
    scorer.score(Need(), "request", FLEET, RANDOM, 0)
    counting.asked.clear()
    scorer.score(Need(), "other", FLEET[1:], RANDOM, 0)
    assert counting.asked == ["other"]
    changed = Known(Card("semantic_bank", skills=(Skill("semantic_bank", "Closes accounts"),)))
    counting.asked.clear()
    scores = scorer.score(Need(), "third", [changed, *FLEET], RANDOM, 0)
    assert counting.asked == ["third", "semantic bank. Closes accounts"]
    assert [*scores] == [*SemanticScorer(Counting()).score(Need(), "third", [changed, *FLEET], RANDOM, 0)]


def test_the_index_forgets_cards_that_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cadenza.routing.semantic.CARDS_KEPT", 10)
    scorer = SemanticScorer(Counting())
    for round_number in range(20):
        fleet = [of(f"semantic_{round_number}_{n}", "same words") for n in range(3)]
        scorer.score(Need(), "request", fleet, RANDOM, 0)
        index = scorer._index
        assert index is not None
        assert len(index.cards) <= 16


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "wordllama" else find(name))
    embedder.cache_clear()
    with pytest.raises(ModelUnavailable, match=r"wordllama is not installed.*pip install 'cadenza\[routing\]'"):
        SemanticScorer().score(Need(), "request", FLEET, RANDOM, 0)
    embedder.cache_clear()


def test_a_provider_that_gives_no_vectors_is_refused() -> None:
    with pytest.raises(UsageError, match="runs in this process, and gives no vectors; use 'wordllama'"):
        embedder("llamacpp:/some/model.gguf")
    with pytest.raises(UsageError, match="has no provider"):
        embedder("text-embedding-3-small")


@pytest.fixture
def server() -> Iterator[tuple[str, list[list[str]]]]:
    """A server that speaks OpenAI's embeddings protocol: the packaged vectors as its model."""
    asked: list[list[str]] = []
    vectors = WordVectors()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            given = json.loads(self.rfile.read(int(self.headers["content-length"])))
            asked.append(given["input"])
            rows = vectors.embed(given["input"]).tolist()
            data = [{"object": "embedding", "index": i, "embedding": row} for i, row in enumerate(rows)]
            usage = {"prompt_tokens": 1, "total_tokens": 1}
            body = json.dumps({"object": "list", "model": given["model"], "data": data, "usage": usage}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None: ...

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}/v1", asked
    http.shutdown()
    http.server_close()
    thread.join()


def test_a_provider_by_name_embeds_once_and_off_the_event_loop(server: tuple[str, list[list[str]]]) -> None:
    url, asked = server
    vectors = ProviderVectors(f"openai-compatible:some-model@{url}")
    scorer = SemanticScorer(Remembering(vectors))
    need = Need(description="transfer money")

    async def prepared() -> None:
        await scorer.prepare(need, "", FLEET)

    asyncio.run(prepared())
    assert sum(map(len, asked)) == 7  # the request, three skills and their examples
    scores = scorer.score(need, "", FLEET, RANDOM, 0)
    assert [*scores] == [*SemanticScorer().score(need, "", FLEET, RANDOM, 0)]
    assert sum(map(len, asked)) == 7
    vectors.close()
