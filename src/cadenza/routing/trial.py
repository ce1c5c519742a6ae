"""One call of one agent, as a run: what ``cadenza agents test`` starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cadenza.durable.context import Context
from cadenza.durable.define import workflow
from cadenza.errors import UnknownName
from cadenza.routing.registry import registry


@dataclass(frozen=True, slots=True)
class Trial:
    """Which instance to call, with what."""

    key: str
    input: Any


@workflow(name="trial")
async def trial(ctx: Context, asked: Trial) -> Any:
    """Call one instance, and return what it gives."""
    own = {each.key: each for each in registry.own()}
    found = own.get(asked.key)
    if found is None or found.agent is None:
        raise UnknownName("agent", asked.key, own, "This process has no code for it.")
    return await found.agent.invoke(ctx, asked.input)
