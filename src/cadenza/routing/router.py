"""Calls by need: who does it is chosen in a step of its own, so that replay never chooses again (rule 10).

    choose#1      the table of the choice is its outcome
    fast#1        the call of the agent that was chosen, as any call of it
    observe#1     how it went is counted, once

The read barrier puts the choice on disk before the agent's call has an effect. If the call never began (an open
breaker, a full queue, a card that forbids it by now), another choice follows, without the one that was tried.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from cadenza.agents.agent import CallByName, agents, find_agent, is_agent
from cadenza.durable.context import EPOCH, Context
from cadenza.durable.define import step
from cadenza.durable.human import HumanTask
from cadenza.engine.catalogue import current_catalogue
from cadenza.errors import (
    Abstained,
    AgentError,
    ChildError,
    Exhausted,
    NeverBegan,
    NoCandidate,
    OutputRejected,
    PeerError,
    StepError,
    StoreError,
    UnknownName,
    UsageError,
)
from cadenza.routing.choose import chosen, text_of
from cadenza.routing.chosen_context import ChosenContext
from cadenza.routing.instances import instance_of, known
from cadenza.routing.learn import Observation
from cadenza.routing.learned import learned_in
from cadenza.routing.limits import limits_now
from cadenza.routing.model_router import NONE, pick_of, prompt_of
from cadenza.routing.need import Need
from cadenza.routing.observed import performance_now
from cadenza.routing.score import scorers
from cadenza.routing.table import Packed, need_fields, need_of

BEST_SHOWN = 3
SKILLS_SHOWN = 200
ASKED_MAX = 3
"""How often a person is asked what is wanted."""
ROUTER_ROUNDS = 2
"""How often an agent that routes is asked: an answer that names no candidate is put right once."""
FAILURES = (StepError, ChildError, AgentError, PeerError, TimeoutError, OutputRejected, Exhausted)
"""What says that an agent has failed. Anything else it has declared: that is an answer."""


@step(name="choose", effect="read")
async def choose(asked: dict[str, Any], given: Any, now: int, fallback_of: str = "", pick: Any = None) -> Any:
    """One choice; see ``chosen``. ``asked`` are the fields of a need, ``now`` is in microseconds."""
    need, all = need_of(asked), known().all
    catalogue = current_catalogue.get(None)
    if catalogue is not None:
        performance_now.set(learned_in(catalogue).performance)
    if (prepare := getattr(scorers.get("semantic"), "prepare", None)) is not None:
        await prepare(need, text_of(need, given), all)
    draw = random.Random(step.key())
    picked = None if pick is None else pick_of(pick)
    packed = chosen(need, given, all, draw, now, limits=limits_now(now), fallback_of=fallback_of, pick=picked)
    if need.skill and not packed["keys"]:
        skills = {skill.id for each in all for skill in each.card.skills}
        if need.skill not in skills:
            packed["skills"] = sorted(skills)[:SKILLS_SHOWN]
    return packed


@step(name="observe", effect="read")
async def observe(key: str, skill: str, ok: bool, latency_s: float, now: int, price_usd: float | None = None) -> bool:
    """Count how a call went, once; whether it was counted. What cannot be counted does no harm to the run."""
    catalogue = current_catalogue.get(None)
    if catalogue is None:
        return False
    seen = Observation(step.key(), key, skill, ok, latency_s, price_usd, now)
    try:
        return bool(learned_in(catalogue).observe(seen))
    except StoreError:
        return False


class Router:
    """Calls agents by name, by themselves, or by need: the Caller that Context uses."""

    def __init__(self) -> None:
        self._named = CallByName()

    def call(self, ctx: Context, agent: Any, input: Any) -> Awaitable[Any]:
        """See ``Context.call``. A call by need raises NoCandidate, Abstained, UnknownName (a skill that nobody has)."""
        if isinstance(agent, Need):
            return asyncio.ensure_future(routed(ctx, agent, input))
        name = agent if isinstance(agent, str) else agent.name if is_agent(agent) else ""
        if name in agents and (name == agent or agents[name] is agent) and _several(ctx, name):
            return asyncio.ensure_future(routed(ctx, Need(agent=name), input))
        return self._named.call(ctx, agent, input)


def _several(ctx: Context, name: str) -> bool:
    """Whether calls of this name choose among instances. A run that has called it without goes on without."""
    patches, id = ctx._machine.patches, f"instances.{name}"  # pyright: ignore[reportPrivateUsage]
    if id in patches.journaled or known().with_code[name] > 1:
        return ctx.patched(id)
    return patches.decline(id)


async def routed(ctx: Context, need: Need, input: Any) -> Any:
    """Choose, call, and count how it went; choose again as long as the call never began.

    Raises:
        NoCandidate: nobody is left; from what the last one was refused for.
        Abstained, UnknownName: see ``winner_of``. What the agent raises.
    """
    key, last = "", None
    while True:
        try:
            key = await choose_key(ctx, need, input, key)
        except NoCandidate as error:
            raise error from last
        try:
            return await invoke(ctx, need, key, input)
        except NeverBegan as error:
            need, last = replace(need, exclude=(*need.exclude, key)), error


async def choose_key(ctx: Context, need: Need, input: Any, fallback_of: str = "") -> str:
    """The key of the instance that is to do it. Raises NoCandidate, Abstained, UnknownName."""
    for asked in range(ASKED_MAX + 1):
        packed = await _choice(ctx, need, input, fallback_of)
        if packed["winner"] or not packed["keys"] or need.on_abstain == "raise" or asked == ASKED_MAX:
            return winner_of(packed, need)
        need = await _clarified(ctx, need, input, packed)
    raise AssertionError("the loop returns or raises")


async def _choice(ctx: Context, need: Need, input: Any, fallback_of: str) -> Packed:
    packed = await ctx.step(choose, need_fields(need), input, microseconds(ctx), fallback_of)
    if not need.router or not packed["keys"]:
        return packed
    watched, text = ChosenContext(ctx, need, f"{need.router}@/"), text_of(need, input)
    problem, offered = "", packed["offered"]
    for _ in range(ROUTER_ROUNDS):
        pick = pick_of(await find_agent(need.router).invoke(watched, prompt_of(text, offered, problem)))
        said = {"key": pick.key, "reason": pick.reason}
        packed = await ctx.step(choose, need_fields(need), input, microseconds(ctx), fallback_of, said)
        if packed["winner"] or pick.key == NONE:
            break
        problem = packed["reason"]
    return packed


async def invoke(ctx: Context, need: Need, key: str, input: Any) -> Any:
    """Call the chosen instance, and count how it went."""
    agent = instance_of(key).agent
    assert agent is not None
    began, chosen = ctx.now(), ChosenContext(ctx, need, key)

    async def count(*, ok: bool) -> None:
        took = (ctx.now() - began) / timedelta(seconds=1)
        await ctx.step(observe, key, need.skill, ok, took, microseconds(ctx), chosen.price_usd)

    try:
        value = await agent.invoke(chosen, input)
    except (NeverBegan, UsageError):
        raise
    except Exception as error:
        await count(ok=not isinstance(error, FAILURES))
        raise
    await count(ok=not chosen.failed)
    return value


async def _clarified(ctx: Context, need: Need, input: Any, packed: Packed) -> Need:
    """The need with what a person says of it: the name or key of a candidate, or more words."""
    text = text_of(need, input)
    best = _best(packed)
    title = f"What is wanted? {text[:80]}{'…' if len(text) > 80 else ''}"
    details = {"wanted": wanted(need), "text": text, "why": packed["reason"], "best": [key for key, _ in best]}
    answer = await ctx.ask(HumanTask(title, "respond", details))
    said = str(answer.value).strip()
    for key, _ in best:
        name = key.partition("@")[0]
        if said in (key, name):
            return replace(need, agent=name, abstain_below=0.0)
    return replace(need, description=f"{text}\n{said}")


def microseconds(ctx: Context) -> int:
    """The time of the last delivered event."""
    return (ctx.now() - EPOCH) // timedelta(microseconds=1)


def winner_of(packed: Packed, need: Need) -> str:
    """The key of who was chosen. Raises NoCandidate, Abstained, UnknownName."""
    if packed["winner"]:
        return str(packed["winner"])
    if "skills" in packed:
        raise UnknownName("skill", need.skill, packed["skills"], "cadenza agents list shows who has which.")
    if packed["keys"]:
        raise Abstained(wanted(need), _best(packed), packed.get("confidence"), need.abstain_below, packed["reason"])
    raise NoCandidate(wanted(need), [(row[0], row[1]) for row in packed["refused"]])


def _best(packed: Packed) -> list[tuple[str, float]]:
    return list(zip(packed["keys"], packed["totals"], strict=True))[:BEST_SHOWN]


def wanted(need: Need) -> str:
    """A need in words."""
    said = [
        f"skill {need.skill!r}" if need.skill else "",
        f"agent {need.agent!r}" if need.agent else "",
        f"tags {', '.join(need.tags)}" if need.tags else "",
        f"placement {', '.join(need.placement)}" if need.placement else "",
        f"data class {need.data_class!r}" if need.data_class else "",
        repr(need.description[:60]) if need.description else "",
    ]
    return ", ".join(part for part in said if part) or "any task"
