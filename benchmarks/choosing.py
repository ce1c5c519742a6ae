"""How long a choice takes: ``python -m benchmarks.choosing``.

A fleet of made-up agents (seeded) with skills, prices, latencies, placements, and what was learned of half of them.
Each choice filters all of them, scores the rest, and makes the table. Measured are choices of needs that have been seen
before (a workflow asks for the same again and again, with other texts), each followed by an observation: on the
clock, and in processor time, which a busy machine changes less. The first choice of all reads every card.
The semantic scorer is that of words in common; embedding a text comes on top (``--semantic``).
"""

from __future__ import annotations

import argparse
import platform
import random
import time
from statistics import median, quantiles

from cadenza import Card, Need, Skill
from cadenza.agents.function import agent
from cadenza.routing.choose import chosen
from cadenza.routing.instance import Instance
from cadenza.routing.learn import Observation, Performance
from cadenza.routing.lexical import Lexical
from cadenza.routing.observed import performance_now
from cadenza.routing.score import scorers

SEED = 7
NOUNS = ("invoice", "contract", "parcel", "flight", "hotel", "refund", "password", "photo", "report", "lease", "claim")
VERBS = ("check", "write", "translate", "summarise", "book", "cancel", "compare", "explain", "file", "send", "price")
PLACES = ("eu", "us", "edge", "gpu")


@agent(name="choosing_bench")
async def worker(text: str) -> str:
    return text


def fleet(count: int, draw: random.Random) -> list[Instance]:
    """Agents with one to three skills each."""
    made: list[Instance] = []
    for number in range(count):
        pairs = [(draw.choice(VERBS), draw.choice(NOUNS)) for _ in range(draw.randint(1, 3))]
        skills = tuple(Skill(f"{v}_{n}", f"{v} a {n}", (n,), (f"please {v} my {n}",)) for v, n in pairs)
        card = Card(
            f"agent{number}",
            f"Can {' and '.join(f'{v} a {n}' for v, n in pairs)}",
            skills=skills,
            price_usd=draw.choice([None, round(draw.uniform(0.0001, 0.1), 4)]),
            latency_s=draw.choice([None, round(draw.uniform(0.2, 20), 2)]),
            placement=tuple(draw.sample(PLACES, draw.randint(1, 3))),
            input_schema={"type": "string"},
            output_schema={"type": "string"},
        )
        made.append(Instance(worker, card))
    return made


def learned(instances: list[Instance], draw: random.Random) -> Performance:
    """A few observations of every second agent."""
    performance = Performance()
    for number, each in enumerate(instances[::2]):
        for turn in range(3):
            ok = draw.random() < 0.9
            performance.observe(Observation(f"{number}:{turn}", each.key, "", ok, draw.uniform(0.2, 9), 0.01, turn))
    return performance


def needs(draw: random.Random) -> list[tuple[Need, str]]:
    """Any agent of the fleet, those in one place, and those that a description speaks of."""
    found: list[tuple[Need, str]] = []
    for _ in range(40):
        text = f"could you {draw.choice(VERBS)} the {draw.choice(NOUNS)} of last week for me"
        found += [(Need(), text), (Need(placement=(draw.choice(PLACES),), prefer="cheap"), text)]
    return found


def measured(count: int) -> tuple[float, list[float], list[float]]:
    """Milliseconds of the first choice; and of those that follow, on the clock and of the processor."""
    draw = random.Random(SEED)
    instances = fleet(count, draw)
    performance = learned(instances, draw)
    performance_now.set(performance)
    asked = needs(draw)
    took: list[float] = []
    used: list[float] = []
    for number, (need, text) in enumerate([*asked, *asked, *asked]):
        began, began_cpu = time.perf_counter(), time.thread_time()
        packed = chosen(need, text, instances, random.Random(number), 1_000_000)
        took.append((time.perf_counter() - began) * 1e3)
        used.append((time.thread_time() - began_cpu) * 1e3)
        performance.observe(Observation(f"after {number}", packed["winner"], "", True, 1.0, 0.01, 1_000_000))
    return took[0], took[len(asked) :], used[len(asked) :]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.choosing", description=__doc__)
    parser.add_argument("--semantic", action="store_true", help="with embeddings (needs the extra routing)")
    if parser.parse_args().semantic:
        from cadenza.routing.semantic import SemanticScorer

        scorers["semantic"] = SemanticScorer()
    else:
        scorers["semantic"] = Lexical()
    print(f"semantic {scorers['semantic'].version}, seed {SEED}, Python {platform.python_version()}")
    print(f"{'agents':>7}  {'p50':>9}  {'p50 cpu':>9}  {'p95':>9}  {'first':>10}")
    for count in (10, 100, 500, 2_000, 10_000):
        first, took, used = measured(count)
        cuts = quantiles(took, n=20)
        print(f"{count:>7,}  {cuts[9]:>6.2f} ms  {median(used):>6.2f} ms  {cuts[18]:>6.2f} ms  {first:>7.1f} ms")


if __name__ == "__main__":
    main()
