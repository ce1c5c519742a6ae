"""`python -m benchmarks.outage`: one agent does not answer for 60 s, and one that gets slower and slower.

The engine, the policies and the agents' steps are the real ones, on virtual time with seeded Poisson arrivals. What is
simulated is the service behind an agent. Two agents share the 64 connections of their process: when calls of the one
hang, the other waits for a connection. Writes docs/generated/outage.md and .png, and
the table into docs/surviving.md.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from benchmarks import chart
from cadenza import Context, Retry, agent, testing, workflow
from cadenza.routing.breaker import BreakerOptions
from cadenza.routing.policy import Policy

SEEDS = range(3)
START = datetime(2026, 1, 1, tzinfo=UTC)
RATE, SEGMENT_S = 10.0, 10.0  # calls a second of each agent; one run makes the calls of a segment
CONNECTIONS, LIMIT_S = 64, 5.0
BEFORE_S, OUTAGE_S, AFTER_S = 60.0, 60.0, 60.0
WHOLE_S = BEFORE_S + OUTAGE_S + AFTER_S
RETRY = Retry(attempts=3, delay_s=0.5)
PATIENT = {"timeout_s": LIMIT_S, "retry": RETRY}
WITH = {"attempt_timeout_s": LIMIT_S, "retry": RETRY}
WAYS: dict[str, Policy | None] = {
    "retries only": None,
    "retry budget": Policy(**WITH),
    "budget, breaker": Policy(**WITH, breaker=BreakerOptions()),
    "budget, breaker, bulkhead of 16": Policy(**WITH, breaker=BreakerOptions(), concurrency=16, queue_max=0),
}
BARE, OURS = "retries only", "budget, breaker, bulkhead of 16"
PLACES, FIRST_S, LAST_S, SLOWING_S = 10, 0.2, 2.0, 240.0
SLOW_RATE = 15.0
SLOW_WAYS: dict[str, Policy | None] = {
    "time limit, retries": None,
    "adaptive concurrency": Policy(attempt_timeout_s=LIMIT_S, adaptive=True, queue_max=10, queue_s=1.0),
}


@dataclass
class Seen:
    """What happened at a service: moments are seconds since the beginning."""

    asked: list[float] = field(default_factory=list[float])
    ended: list[tuple[float, float, str]] = field(default_factory=list[tuple[float, float, str]])


@dataclass
class World:
    """Services and their callers in one simulation."""

    began_s: float
    connections: asyncio.Semaphore
    seen: dict[str, Seen] = field(default_factory=dict[str, Seen])

    @property
    def now_s(self) -> float:
        return asyncio.get_running_loop().time() - self.began_s


@dataclass(frozen=True)
class Segment:
    """Calls of an agent, by their moments."""

    agent: str
    at_s: list[float]


@workflow
async def outage_load(ctx: Context, given: Segment) -> list[tuple[float, float, str]]:
    """The calls of one segment, each at its moment: when it began and ended, and how."""

    def now_s() -> float:
        return (ctx.now() - START).total_seconds()

    async def one(at_s: float) -> tuple[float, float, str]:
        await asyncio.sleep(max(0.0, at_s - now_s()))
        began_s, how = now_s(), "answered"
        try:
            await ctx.call(given.agent, "x")
        except Exception as error:
            how = type(error).__name__
        return began_s, now_s(), how

    return list(await asyncio.gather(*(one(at_s) for at_s in given.at_s)))


def arrivals(draw: random.Random, rate: float, whole_s: float) -> list[list[float]]:
    """Poisson arrivals, by segment."""
    segments: list[list[float]] = [[] for _ in range(int(whole_s / SEGMENT_S))]
    at_s = draw.expovariate(rate)
    while at_s < whole_s:
        segments[int(at_s / SEGMENT_S)].append(at_s)
        at_s += draw.expovariate(rate)
    return segments


async def simulate(seed: int, load: dict[str, list[list[float]]], define: Callable[[World], None]) -> World:
    """Run all calls of ``load`` (arrivals by agent), and what they wait for."""
    async with testing.environment(seed=seed, start=START) as env:
        world = World(asyncio.get_running_loop().time(), asyncio.Semaphore(CONNECTIONS))
        define(world)
        world.seen |= {each: Seen() for each in load}
        runs: list[tuple[str, Any]] = []
        for number in range(max(len(each) for each in load.values())):
            from_s = number * SEGMENT_S
            await asyncio.sleep(max(0.0, from_s - world.now_s))
            for each, segments in load.items():
                runs.append((each, await env.start(outage_load, Segment(each, segments[number]))))
        for each, run in runs:
            world.seen[each].ended += await run.result()
        return world


def made(name: str, policy: Policy | None, work: Callable[[], Any]) -> None:
    """An agent with this policy, or with a time limit and retries of its own."""

    async def ask(text: str) -> str:
        await work()
        return text

    ask.__qualname__ = name
    options: dict[str, Any] = {"policy": policy} if policy is not None else dict(PATIENT)
    agent(name=name, effect="read", **options)(ask)


# --- an outage --------------------------------------------------------------------------------------------------------


def outage(way: str, seed: int, *, fails: bool = True) -> dict[str, float | list[float]]:
    """One simulation: what is measured of it."""
    broken, other = f"outage_{WAY[way]}_{seed}_{int(fails)}", f"steady_{WAY[way]}_{seed}_{int(fails)}"
    draw = random.Random(seed)

    def define(world: World) -> None:
        async def serve(name: str) -> None:
            async with world.connections:
                now_s = world.now_s
                world.seen[name].asked.append(now_s)
                if fails and name == broken and BEFORE_S <= now_s < BEFORE_S + OUTAGE_S:
                    await asyncio.sleep(3600)
                await asyncio.sleep(draw.lognormvariate(-1.6, 0.5))

        made(broken, WAYS[way], lambda: serve(broken))
        made(other, WAYS[way], lambda: serve(other))

    arrive = random.Random(1000 + seed)
    load = {each: arrivals(arrive, RATE, WHOLE_S) for each in (broken, other)}
    world = asyncio.run(simulate(seed, load, define))
    mine, others = world.seen[broken], world.seen[other]
    during = [at_s for at_s in mine.asked if BEFORE_S <= at_s < BEFORE_S + OUTAGE_S]
    calls = sum(BEFORE_S <= began_s < BEFORE_S + OUTAGE_S for began_s, _, _ in mine.ended)
    took = [end_s - began_s for began_s, end_s, _ in others.ended if BEFORE_S <= began_s < BEFORE_S + OUTAGE_S]
    back = [end_s for began_s, end_s, how in mine.ended if how == "answered" and end_s > BEFORE_S + OUTAGE_S]
    return {
        "requests": len(during),
        "for a call": len(during) / calls,
        "p95": p95(took),
        "failed others": 100 * sum(how != "answered" for _, _, how in others.ended) / len(others.ended),
        "back": min(back) - BEFORE_S - OUTAGE_S,
        "by second": [sum(second <= at_s < second + 1 for at_s in mine.asked) for second in range(int(WHOLE_S))],
        "p95 by second": [
            p95([end_s - began_s for began_s, end_s, _ in others.ended if second <= began_s < second + 5] or [0.0])
            for second in range(0, int(WHOLE_S), 5)
        ],
    }


WAY = {way: number for number, way in enumerate(WAYS)}


def p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20, method="inclusive")[18] if len(values) > 1 else values[0]


# --- slower and slower ------------------------------------------------------------------------------------------------


def slowing(way: str, seed: int) -> dict[str, float | list[float]]:
    """One simulation of a service with ten places, that takes ever longer."""
    name = f"slowing_{list(SLOW_WAYS).index(way)}_{seed}"
    draw, waiting = random.Random(seed), [0, 0]

    def define(world: World) -> None:
        places = asyncio.Semaphore(PLACES)

        async def serve() -> None:
            world.seen[name].asked.append(world.now_s)
            waiting[0] += 1
            waiting[1] = max(waiting)
            try:
                async with places:
                    takes_s = FIRST_S + (LAST_S - FIRST_S) * world.now_s / SLOWING_S
                    await asyncio.sleep(takes_s * draw.uniform(0.7, 1.3))
            finally:
                waiting[0] -= 1

        made(name, SLOW_WAYS[way], serve)

    arrive = random.Random(2000 + seed)
    world = asyncio.run(simulate(seed, {name: arrivals(arrive, SLOW_RATE, SLOWING_S)}, define))
    late = [each for each in world.seen[name].ended if each[0] >= SLOWING_S / 2]
    good = [end_s - began_s for began_s, end_s, how in late if how == "answered"]
    return {
        "answered a second": len(good) / (SLOWING_S / 2),
        "p95": p95(good or [0.0]),
        "shed": 100 * sum(how == "Overloaded" for _, _, how in late) / len(late),
        "too late": 100 * sum(how not in ("answered", "Overloaded") for _, _, how in late) / len(late),
        "most": waiting[1],
        "good by second": [
            sum(second <= end_s < second + 5 for _, end_s, how in world.seen[name].ended if how == "answered") / 5
            for second in range(0, int(SLOWING_S), 5)
        ],
    }


# --- the report -------------------------------------------------------------------------------------------------------


def measure(seed: int) -> dict[tuple[str, str], dict[str, Any]]:
    """All ways with one seed."""
    found: dict[tuple[str, str], dict[str, Any]] = {("outage", way): outage(way, seed) for way in WAYS}
    found["calm", OURS] = outage(OURS, seed, fails=False)
    return found | {("slowing", way): slowing(way, seed) for way in SLOW_WAYS}


def main() -> int:
    """Simulate, write and print; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.outage", description=__doc__)
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many seeds")
    seeds = range(parser.parse_args().seeds)
    started = time.monotonic()
    with ProcessPoolExecutor(2) as pool:
        measured = list(pool.map(measure, seeds))
    text = report(measured)
    chart.publish("outage", text, "surviving.md")
    plot(measured)
    print(text)
    print(f"Written to docs/generated/outage.md and .png, and docs/surviving.md; {time.monotonic() - started:.0f} s.")
    return 0


Measured = list[dict[tuple[str, str], dict[str, Any]]]


def report(measured: Measured) -> str:
    """The generated page's text."""
    calm = [seed["calm", OURS]["p95"] for seed in measured]

    def cells(kind: str, way: str, digits: dict[str, int]) -> list[str]:
        columns = {name: [seed[kind, way][name] for seed in measured] for name in digits}
        return [chart.with_half(columns[name], places) for name, places in digits.items()]

    digits = {"requests": 0, "for a call": 2, "p95": 3, "failed others": 1, "back": 1}
    rows = [[f"**{way}**" if WAYS[way] else way, *cells("outage", way, digits)] for way in WAYS]
    for row, way in zip(rows, WAYS, strict=True):
        change = [100 * (seed["outage", way]["p95"] / flat - 1) for seed, flat in zip(measured, calm, strict=True)]
        row.insert(4, chart.with_half(change, 1))
    rows.append(["no outage", "", "", chart.with_half(calm, 3), "", "", ""])
    head = [
        "",
        "requests in the outage",
        "for each call",
        "p95 of the other, s",
        "its change, %",
        "failed, %",
        "back, s",
    ]
    slow_digits = {"answered a second": 1, "p95": 2, "shed": 0, "too late": 0, "most": 0}
    slow_rows = [
        [f"**{way}**" if SLOW_WAYS[way] and SLOW_WAYS[way].adaptive else way, *cells("slowing", way, slow_digits)]  # pyright: ignore[reportOptionalMemberAccess]
        for way in SLOW_WAYS
    ]
    slow_head = ["", "answers a second", "p95 of answers, s", "shed, %", "too late, %", "most at once"]
    return f"""<!-- Made by `python -m benchmarks.outage`; do not edit. -->

An agent that does not answer for {OUTAGE_S:.0f} s, beside another that is well:

{chart.table(head, rows)}
A service with {PLACES} places that takes longer and longer: {FIRST_S:g} s at first, {LAST_S:g} s after
{SLOWING_S:.0f} s. The second half of that time:

{chart.table(slow_head, slow_rows)}
- Two agents with {RATE:g} calls a second each (Poisson) share {CONNECTIONS} connections. One does not answer from
  second {BEFORE_S:.0f} to {BEFORE_S + OUTAGE_S:.0f}. Each attempt may take {LIMIT_S:g} s; there are {RETRY.attempts}.
- *For each call*: requests that reached the agent in the outage, for each call that began in it.
- *p95 of the other*: latency of the calls of the agent that is well, in the outage; *its change* beside the same
  arrivals without an outage; *failed*: its calls with no answer. *Back*: the first answer after the outage.
- The slowing service gets {SLOW_RATE:g} calls a second. *Too late*: no answer within the time limit, after all
  attempts. *Most at once*: requests that were at the service.
- Bold: Cadenza's. Mean ± half of the 95 % confidence interval over {len(measured)} seeds (0 to {len(measured) - 1}).
"""


def plot(measured: Measured) -> None:
    """Load on the failing agent, the other agent's latency, and answers of a slowing service, each by time."""
    figure, (load, latency, slow) = chart.figure(3)

    def mean(kind: str, way: str, name: str) -> list[float]:
        return [statistics.fmean(each) for each in zip(*(seed[kind, way][name] for seed in measured), strict=True)]

    shades = {BARE: chart.OTHERS[0], OURS: chart.COLOURS["ours"]}
    grey = iter(chart.OTHERS[1:])
    for way in WAYS:
        shade = shades.get(way) or next(grey)
        load.plot(mean("outage", way, "by second"), label=way, color=shade, linewidth=1.2)
        latency.plot(range(0, int(WHOLE_S), 5), mean("outage", way, "p95 by second"), color=shade, linewidth=1.2)
    load.set_title("requests a second to the failing agent")
    load.legend(fontsize=7)
    latency.set_title("p95 of the other agent, seconds (log scale)")
    latency.set_yscale("log")
    for way, shade in zip(SLOW_WAYS, (chart.OTHERS[0], chart.COLOURS["ours"]), strict=True):
        slow.plot(range(0, int(SLOWING_S), 5), mean("slowing", way, "good by second"), label=way, color=shade)
    slow.set_title("answers a second of the slowing service")
    slow.legend(fontsize=7)
    for axis in (load, latency):
        axis.axvspan(BEFORE_S, BEFORE_S + OUTAGE_S, color=chart.GREY, alpha=0.12, linewidth=0)
        axis.set_xlabel("seconds")
    slow.set_xlabel("seconds")
    chart.save(figure, "outage")


if __name__ == "__main__":
    sys.exit(main())
