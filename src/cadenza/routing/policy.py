"""One declarative object that says how calls of an agent survive.

    careful = Policy(attempt_timeout_s=20, retry=Retry(attempts=3), breaker=BreakerOptions(), concurrency=8)

    @agent(policy=careful)
    async def writer(topic: str) -> str: ...

    await ctx.call(careful.on("writer"), topic)          # or for one call

What contradicts itself, or the agent, is refused where it is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cadenza.agents.agent import AnyAgent
from cadenza.durable.define import Retry
from cadenza.errors import DefinitionError
from cadenza.routing.breaker import BreakerOptions
from cadenza.routing.governed import Governed
from cadenza.routing.guard import Limits


@dataclass(frozen=True, slots=True)
class Policy:
    """How calls of an agent survive. All of it is optional.

    Attributes:
        attempt_timeout_s: seconds of one attempt, without its time in a queue.
        retry: when a failed attempt is repeated.
        retry_budget: retries of the agent in this process, as a share of its calls; ten more are free.
        breaker: when an instance is left alone; a call of it raises CircuitOpen then.
        concurrency: calls at once of an instance in this process (a bulkhead).
        adaptive: let the limit on calls at once follow the latency; ``concurrency`` is its upper bound then.
        queue_max: how many calls may wait for a turn; one more raises Overloaded.
        queue_s: how long one may wait, before it raises Overloaded.
    """

    attempt_timeout_s: float | None = None
    retry: Retry | None = None
    retry_budget: float = 0.2
    breaker: BreakerOptions | None = None
    concurrency: int | None = None
    adaptive: bool = False
    queue_max: int = 1_000
    queue_s: float = 60.0

    def __post_init__(self) -> None:
        for name in ("attempt_timeout_s", "queue_s"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise DefinitionError(f"policy: {name} is a positive number of seconds, not {value}")
        if not 0 <= self.retry_budget <= 1:
            raise DefinitionError(f"policy: retry_budget is a share of calls, 0 to 1, not {self.retry_budget}")
        if self.concurrency is not None and self.concurrency < 1:
            raise DefinitionError(f"policy: concurrency is at least 1, not {self.concurrency}")
        if self.queue_max < 0:
            raise DefinitionError(f"policy: queue_max is at least 0, not {self.queue_max}")

    @property
    def options(self) -> dict[str, Any]:
        """What it says that a step's own options say too."""
        said = {"timeout_s": self.attempt_timeout_s, "retry": self.retry}
        return {name: value for name, value in said.items() if value is not None}

    @property
    def of_attempts(self) -> list[str]:
        """What it says of attempts: it makes sense for agents only whose calls are a step."""
        plain = Policy()
        names = ("attempt_timeout_s", "retry", "breaker", "concurrency", "adaptive")
        return [name for name in names if getattr(self, name) != getattr(plain, name)]

    @property
    def limits(self) -> Limits:
        """What is kept of each instance in this process."""
        return Limits(
            retry_budget=self.retry_budget,
            breaker=self.breaker,
            concurrency=self.concurrency,
            adaptive=self.adaptive,
            queue_max=self.queue_max,
            queue_s=self.queue_s,
        )

    def on(self, agent: AnyAgent | str, *, instance: str = "") -> Governed:
        """An agent, or the one of this name, under this policy.

        Args:
            instance: the instance's name, if it has several: limits and breakers are those of an instance.

        Raises:
            DefinitionError: the policy contradicts the agent.
            UnknownName: no agent has this name.
        """
        return Governed(agent, self, instance)
