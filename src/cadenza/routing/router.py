"""Calls by need: who does it is chosen in a step of its own, so that replay never chooses again (rule 10).

    choose#1      the table of the choice is its outcome
    fast#1        the call of the agent that was chosen, as any call of it

The read barrier puts the choice on disk before the agent's call has an effect.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable
from datetime import timedelta
from typing import Any

from cadenza.agents.agent import CallByName
from cadenza.durable.context import EPOCH, Context
from cadenza.durable.define import step
from cadenza.errors import UnknownName
from cadenza.routing.choose import chosen
from cadenza.routing.failure import Abstained, NoCandidate
from cadenza.routing.instances import instance_of, instances
from cadenza.routing.need import Need
from cadenza.routing.table import Packed, need_fields, need_of

BEST_SHOWN = 3
SKILLS_SHOWN = 200


@step(name="choose", effect="read")
async def choose(asked: dict[str, Any], given: Any, now: int, fallback_of: str = "") -> Any:
    """One choice; see ``chosen``. ``asked`` are the fields of a need, ``now`` is in microseconds."""
    need, known = need_of(asked), instances()
    packed = chosen(need, given, known, random.Random(step.key()), now, fallback_of=fallback_of)
    if need.skill and not packed["keys"]:
        skills = {skill.id for each in known for skill in each.card.skills}
        if need.skill not in skills:
            packed["skills"] = sorted(skills)[:SKILLS_SHOWN]
    return packed


class Router:
    """Calls agents by name, by themselves, or by need: the Caller that Context uses."""

    def __init__(self) -> None:
        self._named = CallByName()

    def call(self, ctx: Context, agent: Any, input: Any) -> Awaitable[Any]:
        """See ``Context.call``. A call by need raises NoCandidate, Abstained, UnknownName (a skill that nobody has)."""
        if isinstance(agent, Need):
            return asyncio.ensure_future(_routed(ctx, agent, input))
        return self._named.call(ctx, agent, input)


async def _routed(ctx: Context, need: Need, input: Any) -> Any:
    packed = await ctx.step(choose, need_fields(need), input, microseconds(ctx), "")
    winner = winner_of(packed, need)
    instance = instance_of(winner)
    assert instance.agent is not None
    return await instance.agent.invoke(ctx, input)


def microseconds(ctx: Context) -> int:
    """The time of the last delivered event."""
    return (ctx.now() - EPOCH) // timedelta(microseconds=1)


def winner_of(packed: Packed, need: Need) -> str:
    """The key of who was chosen. Raises NoCandidate, Abstained, UnknownName."""
    if packed["winner"]:
        return str(packed["winner"])
    if "skills" in packed:
        raise UnknownName("skill", need.skill, packed["skills"], "An agent's card says what it can do.")
    if packed["keys"]:
        best = list(zip(packed["keys"], packed["totals"], strict=True))[:BEST_SHOWN]
        raise Abstained(wanted(need), best, packed.get("confidence"), need.abstain_below, packed.get("reason", ""))
    raise NoCandidate(wanted(need), [(row[0], row[1]) for row in packed["refused"]])


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
