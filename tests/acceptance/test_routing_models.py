"""An agent as the router, and cascades from a cheap agent to a strong one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from cadenza import Answer, Context, Engine, EngineOptions, Need, RunFailed, Skill, agent, testing, workflow
from cadenza.durable import codec, events
from cadenza.routing.cascade import cascade
from cadenza.routing.choice import Choice
from cadenza.routing.explain import levels_in
from cadenza.routing.model_router import model_router
from cadenza.routing.table import unpack
from cadenza.testing import Environment

HELP = (Skill("rm-help", "Help a customer"),)
ASKED: list[str] = []
REPLIES: list[Any] = []


@agent(name="rm-billing", description="Bills", skills=HELP, placement=("eu",), data_classes=("restricted",))
async def billing(text: str) -> str:
    return "billing"


@agent(name="rm-repairs", description="Repairs", skills=HELP, price_usd=1.0)
async def repairs(text: str) -> str:
    return "repairs"


@agent(name="rm-dispatcher", placement=("us",))
async def dispatcher(text: str) -> Any:
    ASKED.append(text)
    return REPLIES.pop(0)


desk = model_router("rm-desk", model="openai:gpt-5-nano", instructions="Bills are never repaired.")


@agent(name="rm-cheap")
async def cheap(text: str) -> str:
    return "?" if "hard" in text else f"cheap {text}"


@agent(name="rm-strong")
async def strong(text: str) -> str:
    return "?" if "impossible" in text else f"strong {text}"


@agent(name="rm-down")
async def down(text: str) -> str:
    raise ConnectionError("it is down")


@agent(name="rm-judge")
async def judge(given: dict[str, Any]) -> str:
    return "it only asks back" if given["output"] == "?" else "ok"


def answered(output: str) -> str:
    return "it only asks back" if output == "?" else ""


@workflow
async def rm_routed(ctx: Context, asked: dict[str, Any]) -> str:
    need = Need(
        skill="rm-help",
        router=asked.get("router", "rm-dispatcher"),
        data_class=asked.get("data_class", ""),
        on_abstain=asked.get("on_abstain", "raise"),
    )
    return await ctx.call(need, "My bill is wrong")


@workflow
async def rm_cascade(ctx: Context, text: str) -> list[Any]:
    validate: Any = "rm-judge" if "judge" in text else answered
    first = "rm-down" if "down" in text else cheap
    made = await cascade(ctx, [first, "rm-strong"], text, validate=validate)
    return [made.value, made.level, made.who, made.escalated]


@workflow
async def rm_restricted(ctx: Context, text: str) -> Any:
    levels = [Need(skill="rm-help", data_class="restricted"), "rm-strong"]
    return (await cascade(ctx, levels, text, validate=lambda output: False)).value


@pytest.fixture(autouse=True)
def nothing_asked() -> None:
    ASKED.clear()
    REPLIES.clear()


def outcome(path: Path, flow: Any, given: Any, reply: str = "") -> tuple[Any, list[Choice], list[str]]:
    async def main() -> tuple[Any, list[Choice], list[str]]:
        async with Engine.open(path / "rm.db", EngineOptions(verify_replay=True)) as engine:
            run = await engine.start(flow, given)
            if reply:
                while not (open_now := engine.tasks()):
                    await asyncio.sleep(0.01)
                await engine.answer(run.run_id, open_now[0][0].path, Answer(value=reply))
            try:
                value: Any = await run.result()
            except RunFailed as error:
                value = str(error)
            journal = list(engine.journal(run.run_id))
            tables = [
                unpack(codec.decode(event.value, Any, "a choice"))
                for event in journal
                if isinstance(event, events.StepCompleted) and event.name.endswith(":choose")
            ]
            return value, tables, [said for _, said in levels_in(journal)]

    return asyncio.run(main())


# --- an agent routes --------------------------------------------------------------------------------------------------


def test_an_agent_picks_among_the_candidates_and_says_why(tmp_path: Path) -> None:
    REPLIES.append({"key": "rm-billing@1/", "reason": "it is about a bill"})
    value, (offered, made), _ = outcome(tmp_path, rm_routed, {})
    assert value == "billing"
    assert (offered.winner, made.winner, made.strategy) == ("", "rm-billing@1/", "model/1")
    assert made.rows[0].key == made.winner
    assert made.reason == "rm-dispatcher says: it is about a bill"
    assert "- rm-billing@1/: Bills | skills: rm-help: Help a customer" in ASKED[0]


def test_an_answer_outside_of_the_candidates_is_put_right_once(tmp_path: Path) -> None:
    REPLIES.extend(["rm-cheap@1/", "rm-repairs@1/"])
    value, (_, wrong, right), _ = outcome(tmp_path, rm_routed, {})
    assert value == "repairs"
    assert wrong.reason == "rm-dispatcher answered 'rm-cheap@1/', which is the key of no candidate"
    assert wrong.reason in ASKED[1]
    assert right.winner == "rm-repairs@1/"


def test_after_two_useless_answers_nobody_is_chosen(tmp_path: Path) -> None:
    REPLIES.extend(["rm-cheap@1/", "the first one"])
    text, tables, _ = outcome(tmp_path, rm_routed, {})
    assert "Abstained" in text
    assert "'the first one', which is the key of no candidate" in text
    assert len(tables) == 3


def test_a_router_that_says_none_abstains_and_a_person_may_be_asked(tmp_path: Path) -> None:
    REPLIES.append({"key": "none", "reason": "it is about the weather"})
    text, _, _ = outcome(tmp_path, rm_routed, {})
    assert "rm-dispatcher says that nobody fits: it is about the weather" in text
    REPLIES.extend(["none", "rm-billing@1/"])
    value, _, _ = outcome(tmp_path, rm_routed, {"on_abstain": "ask"}, reply="rm-billing")
    assert value == "billing"


def test_a_router_cannot_name_an_agent_that_was_filtered_and_may_not_read_what_it_must_not_see(tmp_path: Path) -> None:
    REPLIES.extend(["rm-repairs@1/", "rm-repairs@1/"])
    text, _, _ = outcome(tmp_path, rm_routed, {"data_class": "restricted"})
    assert "rm-dispatcher@/ was not asked: data class: it may see none, not restricted" in text
    assert ASKED == []


def test_a_model_routes_through_an_llm_agent() -> None:
    async def main() -> None:
        async with testing.environment() as env:
            env.model("rm-desk", [{"key": "rm-repairs@1/", "reason": "it is broken"}])
            run = await env.start(rm_routed, {"router": "rm-desk"})
            assert await run.result() == "repairs"

    asyncio.run(main())


def test_wherever_it_crashes_a_router_is_paid_once_for_each_answer() -> None:
    def setup(env: Environment) -> None:
        ASKED.clear()
        env.model("rm-desk", [{"key": "rm-repairs@1/"}, {"key": "rm-repairs@1/"}])

    assert testing.crash_everywhere(rm_routed, {"router": "rm-desk"}, setup=setup).crashes > 10


# --- cascades ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("validator", ["rule", "judge"])
def test_the_cheap_answer_is_taken_where_it_passes(validator: str, tmp_path: Path) -> None:
    value, _, levels = outcome(tmp_path, rm_cascade, f"easy {validator}")
    assert value == [f"cheap easy {validator}", 1, "rm-cheap", ""]
    assert levels == ["level 1 of 2: rm-cheap answered"]


@pytest.mark.parametrize("validator", ["rule", "judge"])
def test_where_it_does_not_pass_the_strong_one_is_asked(validator: str, tmp_path: Path) -> None:
    value, _, levels = outcome(tmp_path, rm_cascade, f"hard {validator}")
    assert value == [f"strong hard {validator}", 2, "rm-strong", "rm-cheap: it only asks back"]
    assert levels == ["level 1 of 2: rm-cheap did not: it only asks back", "level 2 of 2: rm-strong answered"]


def test_an_agent_that_fails_has_not_answered(tmp_path: Path) -> None:
    value, _, _ = outcome(tmp_path, rm_cascade, "down")
    assert value[:3] == ["strong down", 2, "rm-strong"]
    assert "it is down" in value[3]


def test_a_validator_that_never_passes_ends_with_its_problems(tmp_path: Path) -> None:
    text, _, levels = outcome(tmp_path, rm_cascade, "hard and impossible")
    assert "OutputRejected" in text
    assert "it only asks back" in text
    assert len(levels) == 2


def test_the_data_class_of_one_level_holds_for_all(tmp_path: Path) -> None:
    text, tables, levels = outcome(tmp_path, rm_restricted, "a secret")
    assert "NoCandidate" in text
    assert tables[0].winner == "rm-billing@1/"
    assert "data class: it may see none, not restricted" in levels[1]


@pytest.mark.parametrize("text", ["hard", "hard judge", "down"])
def test_wherever_it_crashes_the_same_level_answers(text: str) -> None:
    assert testing.crash_everywhere(rm_cascade, text).crashes > 8
