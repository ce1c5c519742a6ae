"""`python -m benchmarks.routing_balancing`: spreading calls over instances of which one is slow, in a simulation.

A discrete-event simulation of a pool of instances with one place and a queue each. `Outstanding` chooses as it does in
production; beside it round robin, a draw, and the optimum: one central queue whose calls go to the fastest idle
instance, which no balancer can have that must send a call at once. Writes docs/generated/routing-balancing.md and .png.
"""

from __future__ import annotations

import argparse
import heapq
import random
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol

from benchmarks import chart
from cadenza.routing.balance import Outstanding
from cadenza.routing.learn import Observation, Performance

SEEDS = range(30)
INSTANCES, SLOW_BY = 10, 4.0
WORK_S = 1.0  # of a call at a fast instance, on average
CALLS, WARM_UP, BATCH = 2000, 200, 600


@dataclass(frozen=True)
class Call:
    number: int
    arrives_s: float
    work_s: float


class Balancer(Protocol):
    """Who sends each call to an instance at once."""

    def send(self, call: Call, now_s: float) -> int: ...

    def ended(self, call: Call, now_s: float) -> None: ...


class Counted:
    """A balancer that needs to know nothing of how calls end."""

    def ended(self, call: Call, now_s: float) -> None: ...


class RoundRobin(Counted):
    def __init__(self, draw: random.Random, speeds: Sequence[float]) -> None:
        self.size = len(speeds)

    def send(self, call: Call, now_s: float) -> int:
        return call.number % self.size


class AtRandom(Counted):
    def __init__(self, draw: random.Random, speeds: Sequence[float]) -> None:
        self.draw, self.size = draw, len(speeds)

    def send(self, call: Call, now_s: float) -> int:
        return self.draw.randrange(self.size)


class Ours:
    """`Outstanding` in each of several processes, which know of their own calls only; calls come to them in turn.

    Where latency counts, the rates come from what `Performance` has learned: the seconds from sending a call to its
    end, which is all that a caller sees, with the wait at the instance in it.
    """

    def __init__(
        self,
        draw: random.Random,
        speeds: Sequence[float],
        *,
        two: bool = False,
        learns: bool = False,
        processes: int = 1,
    ) -> None:
        self.draw, self.two, self.learns = draw, two, learns
        self.names = [str(number) for number in range(len(speeds))]
        self.performance = Performance()
        self.processes = [Outstanding() for _ in range(processes)]
        self.calls: dict[int, tuple[str, float, ExitStack]] = {}

    def send(self, call: Call, now_s: float) -> int:
        outstanding = self.processes[call.number % len(self.processes)]
        chosen = (outstanding.two if self.two else outstanding.least)(self.names, self.rates(now_s), self.draw)
        self.calls[call.number] = chosen, now_s, ExitStack()
        self.calls[call.number][2].enter_context(outstanding.calling(chosen))
        return int(chosen)

    def ended(self, call: Call, now_s: float) -> None:
        chosen, sent_s, stack = self.calls.pop(call.number)
        stack.close()
        if self.learns:
            seen = Observation(str(call.number), chosen, "", True, now_s - sent_s, None, int(now_s * 1e6))
            self.performance.observe(seen)

    def rates(self, now_s: float) -> list[float]:
        if not self.learns:
            return [1.0] * len(self.names)
        known = [self.performance.known(name, "", int(now_s * 1e6)) for name in self.names]
        return [1 / (each.latency_expected_s(WORK_S) or WORK_S) for each in known]


class Pulled:
    """One central queue: the fastest idle instance takes the next call; the slow one only if enough calls wait.

    That such a threshold is optimal for two servers: W. Lin and P. R. Kumar, "Optimal control of a queueing system with
    two heterogeneous servers", IEEE Transactions on Automatic Control 29 (1984).
    """

    def __init__(self, threshold: int) -> None:
        self.threshold = threshold


@dataclass(frozen=True)
class Way:
    title: str
    make: Callable[[random.Random, Sequence[float]], Balancer]
    ours: bool = False


WAYS = (
    Way("random", AtRandom),
    Way("round robin", RoundRobin),
    Way("two choices", lambda draw, speeds: Ours(draw, speeds, two=True), ours=True),
    Way("least outstanding", Ours, ours=True),
    Way("two choices, latency learned", lambda draw, speeds: Ours(draw, speeds, two=True, learns=True), ours=True),
    Way("least outstanding, latency learned", lambda draw, speeds: Ours(draw, speeds, learns=True), ours=True),
    Way("least outstanding, 4 processes", lambda draw, speeds: Ours(draw, speeds, processes=4), ours=True),
    Way("the same, latency learned", lambda draw, speeds: Ours(draw, speeds, learns=True, processes=4), ours=True),
)
OPTIMUM = "optimum"
THRESHOLDS = (0, 2, 5, 10, 10**9)


class Pool:
    """The simulated instances. Ends are in seconds, by the number of the call.

    Args:
        speeds: of the instances, the slow one last; a call takes its work divided by the speed.
        sender: a balancer, which sends each call at once, or the central queue.
    """

    def __init__(self, speeds: Sequence[float], sender: Balancer | Pulled) -> None:
        self.speeds, self.sender = speeds, sender
        self.queues: list[deque[Call]] = [deque() for _ in speeds]
        self.central: deque[Call] = deque()
        self.serving: list[Call | None] = [None] * len(speeds)
        self.events: list[tuple[float, int]] = []
        self.ends: dict[int, float] = {}

    def take(self, call: Call, now_s: float) -> None:
        if isinstance(self.sender, Pulled):
            self.central.append(call)
            self._pull(now_s)
            return
        instance = self.sender.send(call, now_s)
        self.queues[instance].append(call)
        if self.serving[instance] is None:
            self._begin(instance, self.queues[instance].popleft(), now_s)

    def end_next(self) -> float:
        now_s, instance = heapq.heappop(self.events)
        call = self.serving[instance]
        assert call is not None
        self.serving[instance], self.ends[call.number] = None, now_s
        if isinstance(self.sender, Pulled):
            self._pull(now_s)
            return now_s
        self.sender.ended(call, now_s)
        if self.queues[instance]:
            self._begin(instance, self.queues[instance].popleft(), now_s)
        return now_s

    def _pull(self, now_s: float) -> None:
        assert isinstance(self.sender, Pulled)
        for instance, speed in enumerate(self.speeds):
            least = 1 if speed == max(self.speeds) else self.sender.threshold + 1
            if self.serving[instance] is None and len(self.central) >= least:
                self._begin(instance, self.central.popleft(), now_s)

    def _begin(self, instance: int, call: Call, now_s: float) -> None:
        self.serving[instance] = call
        heapq.heappush(self.events, (now_s + call.work_s / self.speeds[instance], instance))


def stream(calls: Sequence[Call], speeds: Sequence[float], sender: Balancer | Pulled) -> float:
    """Calls arrive when they will; returns the 99th percentile of the seconds from arrival to end."""
    pool = Pool(speeds, sender)
    for call in calls:
        while pool.events and pool.events[0][0] <= call.arrives_s:
            pool.end_next()
        pool.take(call, call.arrives_s)
    while pool.events:
        pool.end_next()
    took = [pool.ends[call.number] - call.arrives_s for call in calls[WARM_UP:]]
    return statistics.quantiles(took, n=100)[-1]


def batch(calls: Sequence[Call], speeds: Sequence[float], sender: Balancer | Pulled) -> float:
    """All calls are there at once, at most IN_FLIGHT of them are under way; returns when the last ends, in seconds."""
    pool = Pool(speeds, sender)
    for call in calls[:IN_FLIGHT]:
        pool.take(call, 0.0)
    for call in calls[IN_FLIGHT:]:
        pool.take(call, pool.end_next())
    while pool.events:
        pool.end_next()
    return max(pool.ends.values())


def clairvoyant(calls: Sequence[Call], speeds: Sequence[float]) -> float:
    """The makespan of who knows all work before it is done: the longest first, each to where it ends soonest.

    R. L. Graham, "Bounds on multiprocessing timing anomalies" (1969), for machines of different speeds.
    """
    ends = [0.0] * len(speeds)
    for call in sorted(calls, key=lambda call: -call.work_s):
        instance = min(range(len(speeds)), key=lambda each: ends[each] + call.work_s / speeds[each])
        ends[instance] += call.work_s / speeds[instance]
    return max(ends)


def calls_of(seed: int, load: float, speeds: Sequence[float], count: int) -> list[Call]:
    """Poisson arrivals at a share of what the pool can do; work is lognormal, half of it below 0.8 of the mean."""
    draw = random.Random(f"{seed}:{load}:{count}")
    calls: list[Call] = []
    now_s = 0.0
    for number in range(count):
        now_s += draw.expovariate(load * sum(speeds) / WORK_S)
        calls.append(Call(number, now_s, WORK_S * draw.lognormvariate(-0.2, 0.632)))
    return calls


def measure(seed: int) -> dict[tuple[str, str], float]:
    """By what was measured and by the way: every way has the same calls."""
    speeds = [1.0] * (INSTANCES - 1) + [1 / SLOW_BY]
    found: dict[tuple[str, str], float] = {}
    for load in LOADS:
        calls = calls_of(seed, load, speeds, CALLS)
        title = f"p99 at load {load}"
        for way in WAYS:
            found[title, way.title] = stream(calls, speeds, way.make(random.Random(seed), speeds))
        found[title, OPTIMUM] = min(stream(calls, speeds, Pulled(threshold)) for threshold in THRESHOLDS)
    calls = calls_of(seed, 1.0, speeds, BATCH)
    for way in WAYS:
        found[MAKESPAN, way.title] = batch(calls, speeds, way.make(random.Random(seed), speeds))
    found[MAKESPAN, OPTIMUM] = clairvoyant(calls, speeds)
    return found


def main() -> int:
    """Simulate, write and print; see the module's docstring."""
    argparse.ArgumentParser(prog="python -m benchmarks.routing_balancing", description=__doc__).parse_args()
    started = time.monotonic()
    with ProcessPoolExecutor(2) as pool:
        measured = list(pool.map(measure, SEEDS))
    values = {key: [seed[key] for seed in measured] for key in measured[0]}
    text = report(values)
    chart.publish("routing-balancing", text, "learning.md")
    plot(values)
    print(text)
    print(f"Written to docs/generated/routing-balancing.md and .png; {time.monotonic() - started:.0f} s.")
    return 0


def report(values: dict[tuple[str, str], list[float]]) -> str:
    """The generated page's text."""
    columns = list(dict.fromkeys(column for column, _ in values))
    rows = [
        [f"**{title}**" if title in OURS else title, *(chart.with_half(values[column, title], 1) for column in columns)]
        for title in (*(way.title for way in WAYS), OPTIMUM)
    ]
    return f"""<!-- Made by `python -m benchmarks.routing_balancing`; do not edit. -->

{chart.table(["", *(f"{column}, s" for column in columns)], rows)}
{INSTANCES} instances with one place each, of which one is {SLOW_BY:g} times as slow; a call is {WORK_S:g} s of work
on average (lognormal, σ = 0.63).

- *p99*: {CALLS:,} calls, Poisson arrivals at a share of what the pool can do, the first {WARM_UP} not counted.
  Random and round robin send a tenth of the calls to the slow instance, which cannot keep up from a load of
  {INSTANCES / SLOW_BY / (INSTANCES - 1 + 1 / SLOW_BY):.2f} on: its queue grows without end.
- *Makespan*: {BATCH:,} calls, at most {IN_FLIGHT} under way.
- Bold: Cadenza's. *Latency learned*: an instance's rate is one over the latency that `Performance` expects, learned
  from the same calls; elsewhere all instances are taken for equal. *4 processes*: each knows of its own calls only.
- *Optimum*: what nobody can reach who must send a call at once. For p99 a central queue that gives the slow instance
  a call only when many wait, with the threshold that was best in hindsight; for the makespan, all work known before
  (longest first).
- Mean ± half of the 95 % confidence interval over {len(SEEDS)} seeds ({SEEDS[0]} to {SEEDS[-1]}); nothing was tuned.
"""


def plot(values: dict[tuple[str, str], list[float]]) -> None:
    """A point for each way, with its confidence interval."""
    columns = [column for column in dict.fromkeys(column for column, _ in values) if column in PLOTTED]
    made, axes = chart.figure(len(columns), height=3.6)
    titles = [*(way.title for way in WAYS), OPTIMUM][::-1]
    for number, (axis, column) in enumerate(zip(axes, columns, strict=True)):
        told = [chart.mean_and_half(values[column, title]) for title in titles]
        shades = [chart.COLOURS["ours" if each in OURS else OPTIMUM if each == OPTIMUM else "plain"] for each in titles]
        for place, ((mean, half), shade) in enumerate(zip(told, shades, strict=True)):
            axis.errorbar(mean, place, xerr=half, fmt="o", color=shade, ecolor=chart.GREY)
            axis.annotate(f"{mean:.3g}", (mean, place), (6, 5), textcoords="offset points")
        axis.set_yticks(range(len(titles)), titles)
        axis.set_xscale("log")
        axis.margins(x=0.15)
        axis.set_title(f"{column}, seconds (log scale)")
        axis.grid(axis="y", visible=False)
        if number:
            axis.set_yticklabels([])
    chart.save(made, "routing-balancing")


LOADS = (0.2, 0.5, 0.8)
IN_FLIGHT = 2 * INSTANCES
MAKESPAN = "makespan"
PLOTTED = (f"p99 at load {LOADS[1]}", MAKESPAN)
OURS = {way.title for way in WAYS if way.ours}

if __name__ == "__main__":
    sys.exit(main())
