"""The measured end of the benchmark: a process that waits for a request, measures once, and answers in one JSON line.

Every system (Cadenza, the limit, each peer) is such a process, so that all of them pay the same for being measured. It
stays alive between requests, so that imports and byte-code are warm for all, and sleeps in `readline` while another
one is being measured.

    <- {"about": {"langgraph": "1.2.22"}, "series": [{"workload": "W1", "name": "…", "guarantee": "…"}]}
    -> {"series": 0, "folder": "…/build/bench/run-1/W1-0"}
    <- {"value": 1234.5}   or   {"error": "…"}

Only the standard library is imported here: the module runs in the peers' environments too.
"""

import gc
import json
import statistics
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ON_DISK = "every step on disk before the next"
AT_THE_END = "on disk when the run ends"
SUBMITTED = "handed to the disk, not waited for"
ONE_BY_ONE = "every step on disk, one run after another"
NONE = "nothing on disk"


@dataclass(frozen=True)
class Series:
    """One thing to measure: `measure(folder)` works in an empty folder, and returns a value in the workload's unit."""

    workload: str
    name: str
    guarantee: str
    measure: Callable[[Path], float]


@dataclass
class Stopwatch:
    """What one timed block took, in seconds."""

    wall_s: float = 0.0
    cpu_s: float = 0.0


@contextmanager
def stopwatch() -> Iterator[Stopwatch]:
    """Time a block by the wall and by the processor (all threads); garbage of earlier blocks is collected first."""
    gc.collect()
    watch = Stopwatch()
    wall, cpu = time.perf_counter(), time.process_time()
    yield watch
    watch.wall_s, watch.cpu_s = time.perf_counter() - wall, time.process_time() - cpu


def rate(steps: int, once: Callable[[int], object], repeats: int = 1) -> float:
    """Median of `steps` per second over some repeats; `once` is given 0 to warm up, then 1, 2, …"""
    once(0)
    rates: list[float] = []
    for k in range(1, repeats + 1):
        with stopwatch() as watch:
            once(k)
        rates.append(steps / watch.wall_s)
    return statistics.median(rates)


async def rate_async(steps: int, once: Callable[[int], Awaitable[object]], repeats: int = 1) -> float:
    """Like `rate`, inside a running loop."""
    await once(0)
    rates: list[float] = []
    for k in range(1, repeats + 1):
        with stopwatch() as watch:
            await once(k)
        rates.append(steps / watch.wall_s)
    return statistics.median(rates)


async def cpu_us_async(steps: int, once: Callable[[int], Awaitable[object]], repeats: int = 3) -> float:
    """Microseconds of processor time a step, all threads, median over the repeats; `once(0)` warms up."""
    await once(0)
    costs: list[float] = []
    for k in range(1, repeats + 1):
        with stopwatch() as watch:
            await once(k)
        costs.append(watch.cpu_s / steps * 1e6)
    return statistics.median(costs)


def serve(about: dict[str, str], series: list[Series]) -> None:
    """Answer requests until standard input ends. Whatever the measured system prints goes to standard error."""
    answers, sys.stdout = sys.stdout, sys.stderr

    def say(message: dict[str, object]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    listed = [{"workload": s.workload, "name": s.name, "guarantee": s.guarantee} for s in series]
    say({"about": about, "series": listed})
    for line in sys.stdin:
        request = json.loads(line)
        try:
            say({"value": series[request["series"]].measure(Path(request["folder"]))})
        except Exception as error:
            traceback.print_exc()
            say({"error": f"{type(error).__name__}: {error}"})
