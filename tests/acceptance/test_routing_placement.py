"""Placement and data class are hard: these tests try to get restricted data to an agent that must not see it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cadenza import Context, Engine, EngineOptions, HumanAgent, Need, RunFailed, Skill, agent, as_agent, step, workflow
from cadenza.agents.card import Card
from cadenza.errors import Misplaced
from cadenza.routing import chosen_context, instances, router
from cadenza.routing.choose import chosen
from cadenza.routing.instance import Instance
from cadenza.routing.registry import registry
from cadenza.routing.score import PRESETS, scorer, scorers

LEAKED: list[str] = []
SKILL = (Skill("rp-read", "Read a medical file"),)
RESTRICTED: dict[str, Any] = {"skill": "rp-read", "data_class": "restricted", "placement": ("eu",)}


@agent(name="rp-outside", skills=SKILL, price_usd=0.0, latency_s=0.001, placement=("us",), data_classes=("restricted",))
async def outside(text: str) -> str:
    LEAKED.append(text)
    return "outside"


@agent(name="rp-unclassed", skills=SKILL, price_usd=0.0, latency_s=0.001, placement=("eu",))
async def unclassed(text: str) -> str:
    LEAKED.append(text)
    return "unclassed"


@agent(name="rp-inside", skills=SKILL, price_usd=9.0, latency_s=90.0, placement=("eu",), data_classes=("restricted",))
async def inside(text: str) -> str:
    return "inside"


@workflow
async def rp_child(ctx: Context, text: str) -> str:
    LEAKED.append(text)
    return "child"


@step(effect="read")
async def rp_change(how: str) -> None:
    CHANGES[how]()


@workflow
async def rp_calls(ctx: Context, asked: dict[str, Any]) -> str:
    return await ctx.call(Need(**RESTRICTED | asked), "the file of a patient")


@workflow
async def rp_changed(ctx: Context, how: str) -> str:
    """The card changes between the choice and the call."""
    need = replace(Need(**RESTRICTED), agent="rp-mover")
    key = await router.choose_key(ctx, need, "the file of a patient")
    await ctx.step(rp_change, how)
    return await router.invoke(ctx, need, key, "the file of a patient")


class Mover:
    """An instance whose card is changed, or taken away, behind the router's back."""

    key = "rp-mover@1/"

    @staticmethod
    def put(made: Any, **card: Any) -> None:
        registry.remove(Mover.key)
        registry.add(made, name="rp-mover", **card)

    @staticmethod
    def of(made: Any) -> None:
        Mover.put(made, placement=("eu",), data_classes=("restricted",), skills=SKILL)


CHANGES: dict[str, Any] = {
    "it moves away": lambda: Mover.put(outside, placement=("us",), data_classes=("restricted",), skills=SKILL),
    "it may no longer see": lambda: Mover.put(outside, placement=("eu",), data_classes=("public",), skills=SKILL),
    "a person moves away": lambda: Mover.put(PERSON, placement=("us",), data_classes=("restricted",), skills=SKILL),
    "a workflow moves away": lambda: Mover.put(CHILD, placement=("us",), data_classes=("restricted",), skills=SKILL),
}
PERSON = HumanAgent("rp-person", input=str, output=str)
CHILD = as_agent(rp_child, name="rp-child")


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    LEAKED.clear()
    yield
    registry.remove(Mover.key)
    assert LEAKED == []


def outcome(path: Path, flow: Any, given: Any) -> str:
    async def main() -> str:
        async with Engine.open(path / "rp.db", EngineOptions(verify_replay=True)) as engine:
            run = await engine.start(flow, given)
            ended = asyncio.ensure_future(run.result())
            asked = asyncio.ensure_future(_asked(engine))
            await asyncio.wait([ended, asked], return_when=asyncio.FIRST_COMPLETED)
            asked.cancel()
            if not ended.done():
                ended.cancel()
                return "a person is asked"
            try:
                return str(ended.result())
            except RunFailed as error:
                return str(error)

    return asyncio.run(main())


async def _asked(engine: Engine) -> None:
    while not engine.tasks():
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("prefer", PRESETS)
def test_no_preset_or_weight_outweighs_them(prefer: str, tmp_path: Path) -> None:
    assert outcome(tmp_path, rp_calls, {"prefer": prefer, "weights": {"price": 1e12, "latency": 1e12}}) == "inside"


def test_a_scorer_that_wants_the_forbidden_one_does_not_get_it(tmp_path: Path) -> None:
    @scorer(name="rp_traitor", weight=1e12)
    def traitor(need: Need, card: Card) -> float:
        return 0.0 if card.name == "rp-inside" else 1.0

    try:
        assert outcome(tmp_path, rp_calls, {}) == "inside"
    finally:
        del scorers[traitor.name]


def test_where_only_forbidden_ones_are_left_nobody_is_called(tmp_path: Path) -> None:
    text = outcome(tmp_path, rp_calls, {"exclude": ["rp-inside@1/"]})
    assert "placement: it has us, eu is needed" in text
    assert "data class: it may see none, not restricted" in text


@pytest.mark.parametrize("how", ["it moves away", "it may no longer see"])
def test_a_card_that_changes_after_the_choice_stops_the_call(how: str, tmp_path: Path) -> None:
    Mover.of(outside)
    assert "rp-mover@1/ was not asked" in outcome(tmp_path, rp_changed, how)


@pytest.mark.parametrize(("made", "how"), [(PERSON, "a person moves away"), (CHILD, "a workflow moves away")])
def test_people_and_workflows_are_looked_at_again_too(made: Any, how: str, tmp_path: Path) -> None:
    Mover.of(made)
    assert "rp-mover@1/ was not asked" in outcome(tmp_path, rp_changed, how)


def test_a_registry_that_lies_to_the_choice_is_found_out_at_the_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale = Instance(outside, replace(outside.card, placement=("eu",)), healthy=True)
    lying = instances.Known((stale,), {stale.key: stale}, instances.known().with_code)
    monkeypatch.setattr(router, "known", lambda: lying)
    text = outcome(tmp_path, rp_calls, {})
    assert "no agent can be chosen" in text
    assert "exclude: it has been tried" in text


def test_the_check_is_made_for_each_attempt() -> None:
    Mover.of(outside)
    need = Need(**RESTRICTED)
    chosen_context.check_placed(need, Mover.key)
    CHANGES["it moves away"]()
    with pytest.raises(Misplaced, match="it has us, eu is needed"):
        chosen_context.check_placed(need, Mover.key)


def test_random_fleets_and_needs_never_yield_a_forbidden_winner() -> None:
    labels, classes = ["eu", "us", "edge", "gpu"], ["public", "internal", "restricted"]
    for seed in range(300):
        draw = random.Random(seed)

        def some(of: list[str], draw: random.Random = draw) -> tuple[str, ...]:
            return tuple(draw.sample(of, draw.randint(0, len(of))))

        fleet = [
            Instance(
                outside, Card(f"a{n}", placement=some(labels), data_classes=some(classes), price_usd=draw.random())
            )
            for n in range(draw.randint(1, 12))
        ]
        need = Need(
            placement=some(labels),
            data_class=draw.choice(["", *classes]),
            prefer=draw.choice(list(PRESETS)),
            weights={"price": draw.choice([0.0, 1.0, 1e9])},
        )
        packed = chosen(need, "text", fleet, draw, seed)
        allowed = {
            each.key
            for each in fleet
            if set(need.placement) <= set(each.card.placement) and need.data_class in ("", *each.card.data_classes)
        }
        assert set(packed["keys"]) == allowed
        assert packed["winner"] in allowed or (not allowed and packed["winner"] == "")
