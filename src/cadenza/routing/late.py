"""Routing where it is first used: to import its modules takes as long as to import the engine, and many runs need none.

Until then, all that there is of it is a caller that brings the router, and a companion of workers that brings the
registry.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from cadenza.durable.context import Context
from cadenza.engine.catalogue import Catalogue
from cadenza.engine.companion import companions

FIRST_S = 1.0
"""A program that ends sooner than that leaves no trace of its agents: it need not pay for it."""


class FirstCall:
    """The Caller that Context uses until an agent is called; from then on it is the router."""

    def call(self, ctx: Context, agent: Any, input: Any) -> Awaitable[Any]:
        from cadenza.routing.router import Router

        router = Context.caller = Router()
        return router.call(ctx, agent, input)


async def serve_registry(catalogue: Catalogue, worker: str) -> None:
    """Beat for the agents of this process, as long as its worker lives."""
    await asyncio.sleep(FIRST_S)
    from cadenza.routing.registry import registry

    await registry.serve(catalogue, worker)


def begin() -> None:
    """Put both in their places; once a process."""
    Context.caller = FirstCall()
    companions.append(serve_registry)
