"""The limits of one instance of an agent in this process: every attempt of a call goes through its guard.

Order of what an attempt meets: breaker, queue for a slot, rates, breaker again, the agent; a hedge meets all of them
anew. A guard is found by the instance's key and its limits: all who call the instance with the same limits share it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from cadenza.durable.define import StepOptions
from cadenza.durable.scope import current_scope
from cadenza.engine.catalogue import current_catalogue
from cadenza.errors import CircuitOpen, NeverBegan, RetriesSpent, StoreError, UsageError
from cadenza.routing.breaker import Breaker, BreakerOptions, Seen
from cadenza.routing.breaker_board import publish
from cadenza.routing.hedge import HedgeAfter, Latencies, hedged
from cadenza.routing.limiter import Gradient, Slots
from cadenza.routing.rate import Kind, Rate
from cadenza.routing.retry_budget import RetryBudget

ADAPTIVE_MAX = 1_000
HUNG = 0.9
"""A call that is given up after this share of its time limit counts as failed: nobody knows what became of it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a guard keeps; see Policy for the fields."""

    retry_budget: float = 0.2
    breaker: BreakerOptions | None = None
    concurrency: int | None = None
    adaptive: bool = False
    queue_max: int = 1_000
    queue_s: float = 60.0
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    hedge_after: HedgeAfter | None = None


class Guard:
    """Of one instance.

    Attributes:
        calls: requests that have reached the agent; ``hedges`` are those that were second ones.
    """

    def __init__(self, agent: str, key: str, limits: Limits) -> None:
        self.key, self.limits = key, limits
        self.budget = _budgets.setdefault((agent, limits.retry_budget), RetryBudget(limits.retry_budget))
        self.breaker = None if limits.breaker is None else Breaker(limits.breaker)
        self.slots = _slots(key, limits)
        self.calls = self.hedges = 0
        self._latencies = Latencies()
        self._requests = _rate(key, "requests", limits.requests_per_minute, limits.queue_s)
        self._tokens = _rate(key, "tokens", limits.tokens_per_minute, limits.queue_s)
        self._tokens_mean = 0.0

    async def attempt(self, inner: Callable[[], Awaitable[Any]], settings: StepOptions) -> Any:
        """One attempt: ``inner`` is called if nothing speaks against it.

        Raises:
            CircuitOpen, Overloaded: the agent was not asked.
            RetriesSpent: it failed, and another attempt is not within the budget.
        """
        scope = current_scope.get()
        if scope.attempt == 1:
            self.budget.called()
        try:
            return await self._hedged(lambda: self._limited(inner, scope.now, settings), scope)
        except NeverBegan:
            raise
        except Exception as error:
            if _is_repeatable(error, settings, scope.attempt) and not self.budget.retry():
                problem = f"{type(error).__name__}: {error}"
                raise RetriesSpent(self.key, self.budget.ratio, problem) from error
            raise

    async def _hedged(self, ask: Callable[[], Awaitable[Any]], scope: Any) -> Any:
        after = self.limits.hedge_after
        after_s = self._latencies.p95() if after == "p95" else after
        if after_s is None:
            return await ask()
        value, won = await hedged(ask, after_s, self._may_hedge)
        if won:
            self.hedges += 1
            record = {"hedged_after_s": round(after_s, 3), "won": won}
            await scope.memo(f"@hedge.{scope.attempt}", lambda: record, "read", None)
        return value

    def _may_hedge(self) -> bool:
        """A second request needs a token, as a retry does, and an instance that is in order."""
        return (self.breaker is None or not self.breaker.is_open) and self.budget.retry()

    def seen(self, now: int) -> Seen | None:
        """Its breaker; None if it has none."""
        return None if self.breaker is None else self.breaker.seen(now)

    def refusal(self, now: int) -> str:
        """Why a call that came now would be refused; empty if it would not."""
        if self.breaker is not None and (wait_us := self.breaker.wait_us(now)):
            return f"breaker: open for another {wait_us / 1e6:.1f} s"
        if self.slots is not None and self.slots.full:
            return f"capacity: {self.slots.in_flight} calls under way, {self.slots.waiting} wait"
        return ""

    async def _limited(self, inner: Callable[[], Awaitable[Any]], now: Callable[[], int], settings: StepOptions) -> Any:
        self._check(now())
        if self.slots is None:
            return await self._rated(inner, now, settings)
        await self.slots.enter()
        latency_s, ok = None, True
        loop = asyncio.get_running_loop()
        try:
            began_s = loop.time()
            try:
                return await self._rated(inner, now, settings)
            except NeverBegan:
                began_s = None
                raise
            except Exception as error:
                ok = _is_answer(error, settings)
                raise
            finally:
                latency_s = None if began_s is None else loop.time() - began_s
        except asyncio.CancelledError:
            latency_s = None
            raise
        finally:
            self.slots.leave(latency_s, ok=ok)

    async def _rated(self, inner: Callable[[], Awaitable[Any]], now: Callable[[], int], settings: StepOptions) -> Any:
        if self._requests is not None:
            await self._requests.enter(1.0, now())
        if self._tokens is None:
            return await self._asked(inner, now, settings)
        expected = self._tokens_mean
        await self._tokens.enter(expected, now())
        used = expected
        try:
            value = await self._asked(inner, now, settings)
            used = float(tokens_of(value))
            self._tokens_mean = used if not self._tokens_mean else 0.9 * self._tokens_mean + 0.1 * used
            return value
        finally:
            self._tokens.settle(used - expected, now())

    def _check(self, now: int) -> None:
        if self.breaker is None:
            return
        wait_us = self.breaker.wait_us(now)
        if wait_us:
            seen = self.breaker.seen(now)
            failed = f"{seen.failed} of its last {seen.counted} calls have failed"
            state = "its breaker is open" if seen.state == "open" else "a probe of it is under way"
            raise CircuitOpen(self.key, f"{state} ({failed})", round(wait_us / 1e6, 3))

    async def _asked(self, inner: Callable[[], Awaitable[Any]], now: Callable[[], int], settings: StepOptions) -> Any:
        breaker = self.breaker
        self._check(began := now())
        self.calls += 1
        if breaker is None:
            value = await inner()
            self._latencies.add((now() - began) / 1e6)
            return value
        probe = breaker.begin(began)
        try:
            value = await inner()
        except asyncio.CancelledError:
            limit_s = settings.timeout_s
            if limit_s is not None and now() - began >= HUNG * limit_s * 1e6:
                self._count(breaker, False, now(), probe)
            else:
                breaker.abandoned(probe=probe)
            raise
        except UsageError:
            breaker.abandoned(probe=probe)
            raise
        except BaseException as error:
            self._count(breaker, _is_answer(error, settings), now(), probe)
            raise
        self._count(breaker, True, now(), probe)
        self._latencies.add((now() - began) / 1e6)
        return value

    def _count(self, breaker: Breaker, ok: bool, now: int, probe: bool) -> None:
        if breaker.ended(ok, now, probe=probe):
            with suppress(StoreError):  # the store is in trouble: others say so
                publish(current_catalogue.get(), self.key, breaker.seen(now), now)


guards: dict[tuple[str, Limits], Guard] = {}
_budgets: dict[tuple[str, float], RetryBudget] = {}


def guard_of(agent: str, key: str, limits: Limits) -> Guard:
    """The guard of an instance; the same one for the same limits."""
    if (key, limits) not in guards:
        guards[key, limits] = Guard(agent, key, limits)
    return guards[key, limits]


def refusal_of(key: str, now: int) -> str:
    """Why a call of the instance would be refused now by a breaker or for want of capacity; empty if it would not."""
    return next((why for (each, _), guard in list(guards.items()) if each == key and (why := guard.refusal(now))), "")


def tokens_of(value: Any) -> int:
    """What an agent's turn has used, with its sub-agents."""
    return sum(each.input_tokens + each.output_tokens for each in getattr(value, "usage", ()))


def _rate(key: str, kind: Kind, per_minute: float | None, wait_s: float) -> Rate | None:
    return None if per_minute is None else Rate(key, kind, per_minute, wait_s)


def _slots(key: str, limits: Limits) -> Slots | None:
    if limits.adaptive:
        most = limits.concurrency or ADAPTIVE_MAX
        return Slots(key, Gradient(start=min(20, most), most=most), limits.queue_max, limits.queue_s)
    if limits.concurrency is None:
        return None
    return Slots(key, limits.concurrency, limits.queue_max, limits.queue_s)


def _is_answer(error: BaseException, settings: StepOptions) -> bool:
    """Whether the agent has said no, as its definition declares: it is at work, and in order."""
    return isinstance(error, settings.raises)


def _is_repeatable(error: Exception, settings: StepOptions, attempt: int) -> bool:
    """Whether the engine would try again."""
    retry = settings.retry
    return (
        retry is not None
        and settings.effect != "irreversible"
        and attempt < retry.attempts
        and not isinstance(error, (*retry.never_on, *settings.raises))
    )
