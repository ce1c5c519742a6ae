"""What the numbers mean: medians, ratios of the same round, and the speed that Cadenza set out to reach."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.harness import Key, Results
from benchmarks.side import AT_THE_END, NONE, ON_DISK, ONE_BY_ONE

UNITS = {
    "W1": "steps/s",
    "W1p": "steps/s",
    "W2": "steps/s",
    "W3": "steps/s",
    "cpu-chain": "µs CPU/step",
    "cpu-gather": "µs CPU/step",
    "import-time": "s",
    "import-memory": "MB",
    "W4-bytes-800": "B/step",
    "W4-bytes-3200": "B/step",
    "W4-slower": "×",
    "W5-packages": "distributions",
    "W5-size": "MB",
    "W6-repeated": "steps",
    "W6-continue": "s",
    "W7-file": "B/run",
    "W7-memory": "MB",
    "W7-wake": "s",
    "W8": "ms/call",
}
TITLES = {
    "W1": "W1: a chain of 100 durable steps, each outcome on disk before the next step",
    "W1p": "W1p: a chain of 1,000 `read` steps, outcomes written behind",
    "W2": "W2: a fan-out of 1,000 durable steps",
    "W3": "W3: 500 runs of 10 durable steps",
    "cpu-chain": "Processor time a step, in-memory store, a chain of 2,000",
    "cpu-gather": "Processor time a step, in-memory store, a gather of 1,000",
    "import-time": "Cold import",
    "import-memory": "Cold import, peak resident memory",
    "W4-bytes-800": "W4: a conversation of 800 steps of 1,000 bytes, on disk with the log folded in",
    "W4-bytes-3200": "W4: the same, 3,200 steps",
    "W4-slower": "W4: the cost of the last 200 of 3,200 steps over that of steps 50 to 250",
    "W5-packages": "W5: what a default installation brings",
    "W5-size": "W5: the same, on disk with compiled byte-code",
    "W6-repeated": "W6: killed at step 50 of 100: finished steps that ran again",
    "W6-continue": "W6: from the start of the next process to its first step",
    "W7-file": "W7: 100,000 runs that wait in the middle: file a run",
    "W7-memory": "W7: the process that then wakes 1,000 of them: peak resident memory",
    "W8": "W8: an agent of 20 tool calls, a scripted model on localhost",
    "W7-wake": "W7: from 1,000 messages to 1,000 results, after a restart",
}


@dataclass(frozen=True)
class Verdict:
    """One target: what was to be reached, what was measured, `met` (None: could not be measured)."""

    target: str
    measured: str
    met: bool | None


def lower_is_better(workload: str) -> bool:
    """Whether the unit of this workload is a cost, not a speed."""
    return not UNITS[workload].endswith("steps/s")


def best(results: Results, workload: str, kind: str, guarantees: Sequence[str] = (), system: str = "") -> Key | None:
    """The series of this kind (and one of these guarantees, if any are given, of this system) with the best median."""
    found = [
        key
        for key, values in results.values.get(workload, {}).items()
        if key.kind == kind and values and key.name.startswith(system)
        if not guarantees or key.guarantee in guarantees
    ]
    pick = min if lower_is_better(workload) else max
    return pick(found, key=lambda key: statistics.median(results.values[workload][key]), default=None)


def limits(results: Results, workload: str) -> list[Key]:
    """The limits of this workload; the first is the one that targets mean."""
    return [key for key, values in results.values.get(workload, {}).items() if key.kind == "limit" and values]


def ratio(results: Results, workload: str, over: Key, under: Key) -> float:
    """Median over the rounds of `over` divided by `under` in the same round."""
    values = results.values[workload]
    return statistics.median(a / b for a, b in zip(values[over], values[under], strict=False))


def verdicts(results: Results) -> list[Verdict]:
    """Every target whose workload was measured, in the order in which they were set."""
    judged = [
        _times_limit(results, "W1", 0.65, "the one-insert-a-commit limit", 0),
        _times_limit(results, "W1", 0.65, "that limit with a long log (the stricter measure)", 1),
        _times_peer(results, "W1", 3, "LangGraph, best durable mode", (ON_DISK,)),
        _times_peer(results, "W1", 7, "DBOS", (ON_DISK,)),
        _times_peer(results, "W1p", 4, "LangGraph without durability", (NONE,)),
        _times_peer(results, "W2", 20, "LangGraph durable", (AT_THE_END, ON_DISK)),
        _times_peer(results, "W3", 30, "LangGraph durable", (ON_DISK,)),
        _times_peer(results, "W3", 30, "the same, LangGraph's runs in turn", (ONE_BY_ONE,)),
        _at_most(results, "cpu-chain", 50, "a step's overhead in a chain"),
        _at_most(results, "cpu-gather", 50, "a step's overhead in a gather"),
        _at_most(results, "import-time", 0.2, "import cadenza"),
        _at_most(results, "import-memory", 45, "import cadenza"),
        _at_most(results, "W4-bytes-800", 1_600, "W4: 1.3 × payload and 300 B, that is"),
        _at_most(results, "W4-bytes-3200", 1_600, "W4, 3,200 steps: the same, that is"),
        _at_most(results, "W4-slower", 1.1, "W4: a late step"),
        _at_most(results, "W5-packages", 40, "W5: a default installation"),
        _at_most(results, "W5-size", 120, "W5: a default installation"),
        _at_most(results, "W6-repeated", 0, "W6: finished steps again"),
        _at_most(results, "W6-continue", 0.3, "W6: time to continue"),
        _at_most(results, "W7-file", 2_000, "W7: a parked run"),
        _at_most(results, "W7-memory", 150, "W7: memory"),
        _at_most(results, "W7-wake", 1, "W7: 1,000 runs woken"),
        _over_peer(results, "W8", 1, "Pydantic AI"),
    ]
    return [verdict for verdict in judged if verdict is not None]


def as_json(results: Results) -> dict[str, object]:
    """Per workload: unit, Cadenza's median, the limit's, each peer's; and [lowest, highest] of the rounds of each."""
    document: dict[str, object] = {}
    for workload, series in results.values.items():
        medians = {key: round(statistics.median(values), 4) for key, values in series.items() if values}
        document[workload] = {
            "unit": UNITS[workload],
            "cadenza": next((value for key, value in medians.items() if key.kind == "cadenza"), None),
            "limit": next((value for key, value in medians.items() if key.kind == "limit"), None),
            "peers": {key.name: value for key, value in medians.items() if key.kind == "peer"},
            "spread": {key.name: [round(min(series[key]), 4), round(max(series[key]), 4)] for key in medians},
            "rounds": max(len(values) for values in series.values()),
        }
    return document


def _times_limit(results: Results, workload: str, share: float, of_what: str, index: int) -> Verdict | None:
    cadenza, found = best(results, workload, "cadenza"), limits(results, workload)
    limit = found[index] if index < len(found) else None
    target = f"{workload} ≥ {share:.0%} of {of_what}"
    return _judge(results, workload, target, cadenza, limit, share, lambda value: f"{value:.0%}")


def _times_peer(results: Results, workload: str, times: float, whom: str, guarantees: Sequence[str]) -> Verdict | None:
    system = "DBOS" if whom.startswith("DBOS") else "LangGraph"
    cadenza, peer = best(results, workload, "cadenza"), best(results, workload, "peer", guarantees, system)
    target = f"{workload} ≥ {times:g} × {whom}"
    return _judge(
        results, workload, target, cadenza, peer, times, lambda value: f"{value:.1f} × {peer.name if peer else ''}"
    )


def _judge(
    results: Results, workload: str, target: str, over: Key | None, under: Key | None, least: float, show
) -> Verdict | None:
    if workload not in results.values:
        return None
    if over is None or under is None:
        return Verdict(target, "not measured", None)
    value = ratio(results, workload, over, under)
    return Verdict(target, show(value), value >= least)


def _at_most(results: Results, workload: str, most: float, what: str) -> Verdict | None:
    if workload not in results.values:
        return None
    target = f"{what} ≤ {most:g} {UNITS[workload]}"
    cadenza = best(results, workload, "cadenza")
    if cadenza is None:
        return Verdict(target, "not measured", None)
    value = statistics.median(results.values[workload][cadenza])
    return Verdict(target, f"{value:.3g} {UNITS[workload]}", value <= most)


def _over_peer(results: Results, workload: str, most: float, system: str) -> Verdict | None:
    """How much more Cadenza takes than this peer, as the median of the differences of a round."""
    if workload not in results.values:
        return None
    target = f"{workload}: over {system} ≤ {most:g} {UNITS[workload]}"
    cadenza, peer = best(results, workload, "cadenza"), best(results, workload, "peer", (), system)
    if cadenza is None or peer is None:
        return Verdict(target, "not measured", None)
    values = results.values[workload]
    more = statistics.median(a - b for a, b in zip(values[cadenza], values[peer], strict=False))
    return Verdict(target, f"{more:.2g} {UNITS[workload]}", more <= most)
