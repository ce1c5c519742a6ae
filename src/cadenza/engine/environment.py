"""What all runners of a process share."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from cadenza.engine.catalogue import Catalogue
from cadenza.engine.clock import Clock
from cadenza.engine.live import Feed, Live
from cadenza.engine.options import EngineOptions
from cadenza.engine.steps import StandIn, Threads
from cadenza.engine.store import Store
from cadenza.engine.watchdog import Watchdog

if TYPE_CHECKING:
    from cadenza.engine.execution import Execution


class Lease(Protocol):
    """This process's claim to be alive. Between two ``term``s it had run out, and others may have taken its runs."""

    term: int

    def valid(self) -> bool:
        """Whether the lease certainly still holds."""
        ...


@dataclass(slots=True)
class Environment:
    """One per engine. ``nudge`` makes the worker look at the store now; ``roomy`` says whether idle runs may stay a
    moment; ``gone`` says whether nothing that this owner has begun can go on any more. ``stand_in`` puts other
    functions in the place of steps (tests); ``begin`` starts a call of a step, at once or later (a debugger)."""

    store: Store
    clock: Clock
    options: EngineOptions
    feed: Feed
    threads: Threads
    lease: Lease
    watchdog: Watchdog
    loop: asyncio.AbstractEventLoop
    chance: random.Random
    owner: str
    catalogue: Catalogue
    nudge: Callable[[], None] = field(default=lambda: None)
    roomy: Callable[[], bool] = field(default=lambda: True)
    gone: Callable[[str], bool] = field(default=lambda _: True)
    stand_in: StandIn | None = None
    begin: Callable[[Execution], None] | None = None

    def tell(self, run_id: str, path: str, kind: str, name: str, state: Any, detail: Any = None) -> None:
        self.feed.tell(Live(run_id, path, kind, name, state, self.clock.now(), detail))
