"""The scorer "semantic" by vectors, where the extra is installed."""

from __future__ import annotations

import random
from typing import Any, cast

import pytest

from cadenza import Card, Need, Skill
from cadenza.routing.choose import chosen
from cadenza.routing.instance import Instance
from cadenza.routing.meaning import use_embeddings
from cadenza.routing.score import scorers


def test_vectors_find_what_has_no_word_in_common_and_the_table_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wordllama", reason="the extra 'routing' is not installed")
    monkeypatch.setitem(scorers, "semantic", scorers["semantic"])
    here: Any = cast("Any", object())
    fleet = [
        Instance(here, Card("money", skills=(Skill("refund", "Give customers their money back"),))),
        Instance(here, Card("travel", skills=(Skill("flight", "Book an aeroplane ticket"),))),
    ]
    need = Need(description="I would like to be reimbursed", weights={"load": 0})
    before = chosen(need, None, fleet, random.Random(1), 1)
    assert before["scorers"]["semantic"] == "lexical-1"
    use_embeddings()
    after = chosen(need, None, fleet, random.Random(1), 1)
    assert after["winner"] == "money@1/"
    assert "wordllama" in after["scorers"]["semantic"]
    assert after["confidence"] is not None
