"""`python -m benchmarks.routing_learning`: how well Cadenza learns whom to call, beside other ways of choosing.

Simulated fleets of agents whose success rates drift; the outcomes of a seed are the same for every way of choosing.
Writes docs/generated/routing-learning.md and .png. `--tune` prints what the defaults of `Learning` were chosen by, on
seeds that the report does not use.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol

from benchmarks import chart
from cadenza.routing.learn import Learning, Observation, Performance

REPORTED, TUNED = range(30), range(1000, 1030)
CALLS = 3000
FALLS, RECOVERS = 1000, 2000
SOON = 50  # calls: noticed when the agent gets at most a tenth of the next ones, forgiven when at least half


class Chooser(Protocol):
    """A way of choosing among agents that are numbered."""

    def choose(self, agents: Sequence[int], now: int) -> int: ...

    def learn(self, agent: int, ok: bool, now: int) -> None: ...


class AtRandom:
    def __init__(self, draw: random.Random) -> None:
        self.draw = draw

    def choose(self, agents: Sequence[int], now: int) -> int:
        return self.draw.choice(agents)

    def learn(self, agent: int, ok: bool, now: int) -> None: ...


class RoundRobin:
    def __init__(self, draw: random.Random) -> None:
        self.turn = -1

    def choose(self, agents: Sequence[int], now: int) -> int:
        self.turn += 1
        return agents[self.turn % len(agents)]

    def learn(self, agent: int, ok: bool, now: int) -> None: ...


class Counting:
    """What greedy and UCB1 remember: plain counts."""

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw
        self.calls: dict[int, int] = {}
        self.successes: dict[int, int] = {}

    def learn(self, agent: int, ok: bool, now: int) -> None:
        self.calls[agent] = self.calls.get(agent, 0) + 1
        self.successes[agent] = self.successes.get(agent, 0) + ok

    def rate(self, agent: int) -> float:
        return self.successes[agent] / self.calls[agent] if agent in self.calls else 1.0


class Greedy(Counting):
    """The best so far; one choice in ten at random (epsilon-greedy)."""

    def choose(self, agents: Sequence[int], now: int) -> int:
        return self.draw.choice(agents) if self.draw.random() < 0.1 else max(agents, key=self.rate)


class Ucb1(Counting):
    """P. Auer, N. Cesa-Bianchi and P. Fischer, "Finite-time analysis of the multiarmed bandit problem" (2002)."""

    def choose(self, agents: Sequence[int], now: int) -> int:
        for agent in agents:
            if agent not in self.calls:
                return agent
        log = 2 * math.log(sum(self.calls.values()))
        return max(agents, key=lambda agent: self.rate(agent) + math.sqrt(log / self.calls[agent]))


class Cadenza:
    """The router's own code, as it draws and learns in production."""

    def __init__(self, draw: random.Random, learning: Learning | None = None) -> None:
        self.draw = draw
        self.performance = Performance(learning)
        self.seen = 0

    def choose(self, agents: Sequence[int], now: int) -> int:
        drawn = self.performance.drawn([str(agent) for agent in agents], "", self.draw, now)
        return agents[drawn.index(max(drawn))]

    def learn(self, agent: int, ok: bool, now: int) -> None:
        self.seen += 1
        self.performance.observe(Observation(str(self.seen), str(agent), "", ok, 1.0, None, now))


NEVER_FORGETS = replace(Learning(), half_life_s=1e12, half_life_calls=1e12, window=1e12, trial_share=1.0)

WAYS: dict[str, Callable[[random.Random], Chooser]] = {
    "random": AtRandom,
    "round robin": RoundRobin,
    "greedy (ε = 0.1)": Greedy,
    "UCB1": Ucb1,
    "Thompson, no decay": lambda draw: Cadenza(draw, NEVER_FORGETS),
    "Cadenza": Cadenza,
}


@dataclass(frozen=True)
class Fleet:
    """A story: the success rate of each agent at each call; None while it is not there.

    Attributes:
        gap_s: seconds from one call to the next.
        watched: the agent that falls at call FALLS and recovers at RECOVERS, or joins at FALLS; -1 for none.
    """

    title: str
    rates: Callable[[random.Random], list[list[float | None]]]
    gap_s: float = 1.0
    watched: int = -1


def steady(draw: random.Random) -> list[list[float | None]]:
    fixed: list[float | None] = [draw.uniform(0.5, 0.98) for _ in range(10)]
    return [fixed] * CALLS


def drifting(draw: random.Random) -> list[list[float | None]]:
    """Random walks of the logit, held between 0.2 and 0.98: the best agent is another one every few hundred calls."""
    logits = [draw.uniform(-0.5, 3.0) for _ in range(8)]
    story: list[list[float | None]] = []
    for _ in range(CALLS):
        logits = [min(3.9, max(-1.4, logit + draw.gauss(0, 0.06))) for logit in logits]
        story.append([1 / (1 + math.exp(-logit)) for logit in logits])
    return story


def degrading(draw: random.Random) -> list[list[float | None]]:
    """The best of eight works one call in three for a while; it is as good as before after that."""
    others = [draw.uniform(0.55, 0.85) for _ in range(7)]
    return [[0.33 if FALLS <= call < RECOVERS else 0.96, *others] for call in range(CALLS)]


def joining(draw: random.Random) -> list[list[float | None]]:
    """Thirty agents join at once, of which the first is the best of all, and the others are mixed."""
    old: list[float | None] = [draw.uniform(0.6, 0.88) for _ in range(5)]
    new: list[float | None] = [0.97, *(draw.uniform(0.3, 0.85) for _ in range(29))]
    return [
        [new[0] if call >= FALLS else None, *old, *(new[1:] if call >= FALLS else [None] * 29)] for call in range(CALLS)
    ]


FLEETS = (
    Fleet("steady", steady),
    Fleet("drifting", drifting),
    Fleet("degrading", degrading, watched=0),
    Fleet("joining", joining, watched=0),
    Fleet("degrading, 20 calls a second", degrading, gap_s=0.05, watched=0),
    Fleet("degrading, a call every 5 minutes", degrading, gap_s=300, watched=0),
)
STORIES = 4  # of the fleets; the others tell one of them at another pace, which only Cadenza feels


@dataclass(frozen=True)
class Told:
    """What one run told.

    Attributes:
        regret: after every 50th call, against the agent that was best on the whole.
        lost: expected successes that were lost to always calling the one that is best at the time.
        noticed, forgiven: calls until then; CALLS if it did not happen while it could; -1 if nothing was to be seen.
        share: of the watched agent in every 50 calls.
    """

    regret: tuple[float, ...]
    lost: float
    noticed: int = -1
    forgiven: int = -1
    share: tuple[float, ...] = ()


def simulate(fleet: Fleet, way: Callable[[random.Random], Chooser], seed: int) -> Told:
    """One fleet, one way of choosing. The fleet and each outcome depend on the seed alone."""
    world = random.Random(f"{fleet.title.split(',')[0]}:{seed}")
    story = fleet.rates(world)
    luck = [world.random() for _ in range(CALLS)]
    chooser = way(random.Random(seed))
    chosen: list[int] = []
    for call, rates in enumerate(story):
        now = int((1_700_000_000 + call * fleet.gap_s) * 1e6)
        agent = chooser.choose([number for number, rate in enumerate(rates) if rate is not None], now)
        chosen.append(agent)
        chooser.learn(agent, luck[call] < (rates[agent] or 0.0), now)
    return told(fleet, story, chosen)


def told(fleet: Fleet, story: list[list[float | None]], chosen: list[int]) -> Told:
    got = [story[call][agent] or 0.0 for call, agent in enumerate(chosen)]
    best = max(range(len(story[0])), key=lambda agent: sum(rates[agent] or 0.0 for rates in story))
    regret = [0.0]
    for rates, rate in zip(story, got, strict=True):
        regret.append(regret[-1] + (rates[best] or 0.0) - rate)
    lost = sum(max(rate or 0.0 for rate in rates) for rates in story) - sum(got)
    if fleet.watched < 0:
        return Told(tuple(regret[::SOON]), lost)
    hits = [agent == fleet.watched for agent in chosen]
    share = tuple(sum(hits[call : call + SOON]) / SOON for call in range(0, CALLS, SOON))
    joins = story[0][fleet.watched] is None
    noticed = -1 if joins else first(hits, FALLS, RECOVERS, lambda calls: calls <= SOON * 0.1)
    forgiven = first(hits, FALLS if joins else RECOVERS, CALLS, lambda calls: calls >= SOON * 0.5)
    return Told(tuple(regret[::SOON]), lost, noticed, forgiven, share)


def first(hits: list[bool], start: int, end: int, enough: Callable[[int], bool]) -> int:
    """Calls from ``start`` until the next SOON calls are as they should be."""
    for call in range(start, end - SOON):
        if enough(sum(hits[call : call + SOON])):
            return call - start
    return CALLS


Results = dict[tuple[int, str], list[Told]]  # by the number of the fleet and the way


def run(fleet: int, way: str, seed: int) -> Told:
    return simulate(FLEETS[fleet], WAYS[way], seed)


def run_tuning(changes: dict[str, Any]) -> list[float]:
    """Successes lost in each fleet, on the seeds for tuning."""
    learning = replace(Learning(), **changes)
    return [
        statistics.fmean(simulate(fleet, lambda draw: Cadenza(draw, learning), seed).lost for seed in TUNED[:5])
        for fleet in FLEETS
    ]


def main() -> int:
    """Simulate, write and print; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.routing_learning", description=__doc__)
    parser.add_argument("--tune", action="store_true", help="print what the defaults were chosen by (a few minutes)")
    asked = parser.parse_args()
    started = time.monotonic()
    with ProcessPoolExecutor(2) as pool:
        if asked.tune:
            print("    sum ", *(f"{fleet.title[-11:]:>11}" for fleet in FLEETS), "(successes lost)")
            for changes, lost in zip(GRID, pool.map(run_tuning, GRID), strict=True):
                print(f"{sum(lost):7.1f} ", *(f"{each:11.1f}" for each in lost), changes or "the defaults", flush=True)
            return 0
        tasks = [
            (fleet, way, seed)
            for fleet in range(len(FLEETS))
            for way in (WAYS if fleet < STORIES else ["Cadenza"])
            for seed in REPORTED
        ]
        found: Results = {}
        for (fleet, way, _), one in zip(tasks, pool.map(run, *zip(*tasks, strict=True), chunksize=5), strict=True):
            found.setdefault((fleet, way), []).append(one)
    text = report(found)
    chart.publish("routing-learning", text, "learning.md")
    plot(found)
    print(text)
    print(f"Written to docs/generated/routing-learning.md and .png; {time.monotonic() - started:.0f} s.")
    return 0


def report(found: Results) -> str:
    """The generated page's text."""
    regrets = [
        [bold(way), *(chart.with_half([one.regret[-1] for one in found[fleet, way]]) for fleet in range(STORIES))]
        for way in WAYS
    ]
    times = [
        [bold(way) + (f", {FLEETS[fleet].title.partition(', ')[2]}" if fleet >= STORIES else ""), *told_times(ones)]
        for (fleet, way), ones in found.items()
        if FLEETS[fleet].title.startswith("degrading")
    ]
    timed = [[f"{count:,}", *(f"{each:.2f}" for each in choosing_ms(count))] for count in (10, 500, 10_000)]
    adopted = [[bold(way), spread([one.forgiven for one in found[3, way]])] for way in WAYS]
    return f"""<!-- Made by `python -m benchmarks.routing_learning`; do not edit. -->

**Regret** after {CALLS:,} calls: expected successes lost to always calling the agent that is best on the whole (less
than 0: better than any fixed agent). Mean ± half of the 95 % confidence interval.

{chart.table(["", *(fleet.title for fleet in FLEETS[:STORIES])], regrets)}
**An agent that degrades** (from 0.96 to 0.33, after {FALLS:,} calls, for {RECOVERS - FALLS:,}): calls until it gets at
most a tenth of the next {SOON}, and, once it is as good as before, until it gets at least half of them. Median (10 % to
90 % of the seeds); "never" is not before the story ends. Who gave it few calls before has little to notice.

{chart.table(["", "its share before", "noticed after", "its share while degraded", "forgiven after"], times)}
**A better agent joins**, with 29 others that are not: calls until it gets at least half of the next {SOON}.

{chart.table(["", "adopted after"], adopted)}
**What a choice costs**: milliseconds of processor time to draw for so many candidates, of which each has been observed
three times; the median of twenty.

{chart.table(["candidates", "as Cadenza draws", "each from its Beta"], timed)}
*Steady*: ten agents, success rates from 0.5 to 0.98. *Drifting*: eight, random walks between 0.2 and 0.98. *Degrading*:
the best of eight degrades and recovers. *Joining*: five agents up to 0.88, after {FALLS:,} calls thirty more, one of
0.97. A call a second where nothing else is said. Fleets and outcomes of a seed are the same for all. Reported on seeds
{REPORTED[0]} to {REPORTED[-1]}; the defaults were tuned on seeds {TUNED[0]} to {TUNED[-1]} (`--tune` takes the
first five); the other ways have nothing that was tuned.
"""


def choosing_ms(count: int) -> tuple[float, float]:
    """How long it takes to draw for so many candidates, and to draw each from its Beta."""
    performance, draw = Performance(), random.Random(1)
    names, now = [f"agent{number}@1/" for number in range(count)], 1_700_000_000_000_000
    for number in range(3 * count):
        seen = Observation(str(number), names[number % count], "", draw.random() < 0.9, 1.0, None, now)
        performance.observe(seen)
    known = [performance.known(name, "", now) for name in names]

    def exactly() -> None:
        for each in known:
            draw.betavariate(1.6 + each.successes, 0.4 + each.failures)

    def median_ms(fn: Callable[[], object]) -> float:
        took: list[float] = []
        for _ in range(20):
            started = time.process_time()
            fn()
            took.append(1000 * (time.process_time() - started))
        return statistics.median(took)

    return median_ms(lambda: performance.drawn(names, "", draw, now)), median_ms(exactly)


def bold(way: str) -> str:
    return f"**{way}**" if way == "Cadenza" else way


def told_times(ones: list[Told]) -> list[str]:
    before = [statistics.fmean(one.share[FALLS // SOON // 2 : FALLS // SOON]) for one in ones]
    during = [statistics.fmean(one.share[FALLS // SOON : RECOVERS // SOON]) for one in ones]
    return [
        f"{statistics.fmean(before):.0%}",
        spread([one.noticed for one in ones]),
        f"{statistics.fmean(during):.0%}",
        spread([one.forgiven for one in ones]),
    ]


def spread(calls: list[int]) -> str:
    """The median, and the 10th and the 90th percentile."""
    tenths = statistics.quantiles(calls, n=10, method="inclusive")
    low, middle, high = ("never" if tenths[each] > CALLS - FALLS else f"{tenths[each]:.0f}" for each in (0, 4, 8))
    return middle if low == high else f"{middle} ({low} to {high})"


def plot(found: Results) -> None:
    """Regret over time for each fleet, and the watched agent's share of calls, with 95 % confidence bands."""
    made, axes = chart.figure(3, rows=2)
    shades = dict(zip(WAYS, (*chart.OTHERS, chart.COLOURS["ours"]), strict=True))
    calls = range(0, CALLS + 1, SOON)
    for axis, fleet in zip((axes[0], axes[1], axes[3], axes[4]), (0, 1, 2, 3), strict=True):
        for way, shade in shades.items():
            band(axis, calls, [one.regret for one in found[fleet, way]], shade, way)
        axis.set_title(f"{FLEETS[fleet].title}: regret")
    for axis, fleet, title in ((axes[2], 2, "degrading agent's"), (axes[5], 3, "joining agent's")):
        for way in list(shades)[2:]:
            band(axis, calls[:-1], [one.share for one in found[fleet, way]], shades[way], way)
        axis.axvspan(FALLS, RECOVERS if fleet == 2 else CALLS, color=chart.GREY, alpha=0.15, linewidth=0)
        axis.set_title(f"share of the calls: {title}")
    axes[0].legend(fontsize=8)
    for axis in axes:
        axis.set_xlabel("calls")
    chart.save(made, "routing-learning")


def band(axis: Any, calls: Sequence[int], lines: Sequence[Sequence[float]], shade: str, label: str) -> None:
    told = [chart.mean_and_half(column) for column in zip(*lines, strict=True)]
    axis.plot(calls, [mean for mean, _ in told], color=shade, label=label, linewidth=2 if label == "Cadenza" else 1.2)
    low, high = [mean - half for mean, half in told], [mean + half for mean, half in told]
    axis.fill_between(calls, low, high, color=shade, alpha=0.2, linewidth=0)


GRID: list[dict[str, Any]] = [
    {},
    {"half_life_calls": 150.0},
    {"half_life_calls": 600.0},
    {"half_life_s": 900.0},
    {"window": 30.0},
    {"window": 100.0},
    {"floor": 1.5},
    {"floor": 6.0},
    {"prior_success": 0.9},
    {"prior_weight": 1.0},
    {"prior_weight": 4.0},
    {"proven": 5.0},
    {"proven": 15.0},
    {"trial_share": 0.01},
    {"trial_share": 0.05},
    {"trial_share": 0.1},
]

if __name__ == "__main__":
    sys.exit(main())
