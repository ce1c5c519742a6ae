"""One declarative object that says how calls of an agent survive.

    careful = Policy(attempt_timeout_s=20, retry=Retry(attempts=3), breaker=BreakerOptions(), concurrency=8)

    @agent(policy=careful)
    async def writer(topic: str) -> str: ...

    await ctx.call(careful.on("writer"), topic)          # or for one call

What contradicts itself, or the agent, is refused where it is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from cadenza.agents.agent import AnyAgent
from cadenza.durable.define import Retry, StepFunction
from cadenza.errors import DefinitionError
from cadenza.routing.breaker import BreakerOptions
from cadenza.routing.fallback import Level
from cadenza.routing.governed import Governed
from cadenza.routing.guard import Limits
from cadenza.routing.hedge import HedgeAfter
from cadenza.routing.pool import PoolOptions
from cadenza.routing.validation import Repair, Validator


@dataclass(frozen=True, slots=True)
class Policy:
    """How calls of an agent survive. All of it is optional.

    Attributes:
        attempt_timeout_s: seconds of one attempt, without its time in a queue.
        total_timeout_s: seconds of all attempts, waits and repairs, of each level anew.
        retry: when a failed attempt is repeated.
        retry_budget: retries of the agent in this process, as a share of its calls; ten more are free.
        breaker: when an instance is left alone; a call of it raises CircuitOpen then.
        concurrency: calls at once of an instance in this process (a bulkhead).
        adaptive: let the limit on calls at once follow the latency; ``concurrency`` is its upper bound then.
        queue_max: how many calls may wait for a turn; one more raises Overloaded.
        queue_s: how long one may wait, before it raises Overloaded.
        requests_per_minute: of an instance, by all workers of the store's file.
        tokens_per_minute: the same, in tokens of models, in and out; for LLM agents.
        hedge_after: seconds, or "p95" of what was seen: a second request is made then, the first answer wins, and the
            other request is cancelled. For async agents whose effect is ``read``; within the retry budget.
        killable: run a sync function in a process of its own, which a time limit kills; see killable.py.
        pool: how many such processes, and when another one is started or ended; at most four by default.
        validate: what an output must pass: JSON Schemas, rules, agents; see Validator. One, or several in turn.
        repair_rounds: how often the agent is asked again, with the problems, before OutputRejected is raised.
        repair: makes its next input of the first input, the output and its problems; not needed where it takes text.
        fallback: who is asked when it has failed, in this order: OtherInstance(), another agent or its name,
            Mode(…) for a cheaper way, Person(…). Each is a choice of its own in the journal.
        dead_letter: keep a call that nobody could do, to have it done again.
    """

    attempt_timeout_s: float | None = None
    total_timeout_s: float | None = None
    retry: Retry | None = None
    retry_budget: float = 0.2
    breaker: BreakerOptions | None = None
    concurrency: int | None = None
    adaptive: bool = False
    queue_max: int = 1_000
    queue_s: float = 60.0
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    hedge_after: HedgeAfter | None = None
    killable: bool = False
    pool: PoolOptions | None = None
    validate: Validator | Sequence[Validator] = ()
    repair_rounds: int = 0
    repair: Repair | None = None
    fallback: tuple[Level, ...] = ()
    dead_letter: bool = False

    def __post_init__(self) -> None:
        for name in ("attempt_timeout_s", "total_timeout_s", "queue_s"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise DefinitionError(f"policy: {name} is a positive number of seconds, not {value}")
        total_s, attempt_s = self.total_timeout_s, self.attempt_timeout_s
        if total_s is not None and attempt_s is not None and attempt_s > total_s:
            raise DefinitionError(
                f"policy: an attempt may take {attempt_s:g} s, and all attempts together {total_s:g} s; "
                "attempt_timeout_s must not be over total_timeout_s"
            )
        if self.repair_rounds < 0 or ((self.repair_rounds or self.repair) and not self.validators):
            raise DefinitionError("policy: repair_rounds and repair need validate=…, which says what is to be mended")
        if not 0 <= self.retry_budget <= 1:
            raise DefinitionError(f"policy: retry_budget is a share of calls, 0 to 1, not {self.retry_budget}")
        if self.concurrency is not None and self.concurrency < 1:
            raise DefinitionError(f"policy: concurrency is at least 1, not {self.concurrency}")
        for name in ("requests_per_minute", "tokens_per_minute", "hedge_after"):
            value = getattr(self, name)
            if value is not None and value != "p95" and (isinstance(value, str) or value <= 0):
                raise DefinitionError(f"policy: {name} is over 0, not {value!r}")
        if self.pool is not None and not self.killable:
            raise DefinitionError("policy: pool is for killable=True; concurrency bounds calls in this process")
        if self.queue_max < 0:
            raise DefinitionError(f"policy: queue_max is at least 0, not {self.queue_max}")

    @property
    def options(self) -> dict[str, Any]:
        """What it says that a step's own options say too."""
        said = {"timeout_s": self.attempt_timeout_s, "retry": self.retry}
        return {name: value for name, value in said.items() if value is not None}

    @property
    def validators(self) -> tuple[Validator, ...]:
        """What an output must pass."""
        given: Any = self.validate
        return tuple(cast("Sequence[Validator]", given)) if isinstance(given, list | tuple) else (given,)

    @property
    def of_attempts(self) -> list[str]:
        """What it says of attempts: it makes sense for agents only whose calls are a step."""
        plain = Policy()
        names = (
            "attempt_timeout_s", "retry", "breaker", "concurrency", "adaptive", "requests_per_minute",
            "tokens_per_minute", "hedge_after", "killable",
        )  # fmt: skip
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
            requests_per_minute=self.requests_per_minute,
            tokens_per_minute=self.tokens_per_minute,
            hedge_after=self.hedge_after,
        )

    def check(self, name: str, step: StepFunction[..., Any]) -> None:
        """Refuse what contradicts an agent's step. Raises DefinitionError."""
        settings, hedges = step.settings, self.hedge_after is not None
        if hedges and settings.effect != "read":
            raise DefinitionError(
                f"{name}: hedge_after asks twice, which is for effect='read' only; this one is {settings.effect!r}"
            )
        if hedges and not (step.is_async or self.killable):
            raise DefinitionError(f"{name}: hedge_after cannot cancel a thread; make it async, or give killable=True")
        if hedges and settings.heartbeat_timeout_s is not None:
            raise DefinitionError(f"{name}: hedge_after and heartbeat_timeout_s do not go together; drop one")
        if self.tokens_per_minute is not None and not step.name.startswith("agent:"):
            raise DefinitionError(f"{name}: tokens_per_minute is for agents with a model; it uses none")

    def on(self, agent: AnyAgent | str, *, instance: str = "") -> Governed:
        """An agent, or the one of this name, under this policy.

        Args:
            instance: the instance's name, if it has several: limits and breakers are those of an instance.

        Raises:
            DefinitionError: the policy contradicts the agent.
            UnknownName: no agent has this name.
        """
        return Governed(agent, self, instance)
