"""``python -m tests.simulation``: plays thousands of seeds, or one again.

    python -m tests.simulation                 3,000 seeds, on two processes
    python -m tests.simulation --seeds 20000   as many as you like
    python -m tests.simulation --seed 17       this one, with what happened

Exit code 1 if a seed has shown a violation; each is printed with the command that plays it again.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.simulation.simulate import Report, freeze, simulate

SEEDS = 3_000
CHUNK = 25
SHOWN_LINES, SHOWN_PROBLEMS = 60, 20


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation", description="Plays thousands of seeds, or one again."
    )
    parser.add_argument("--seed", type=int, help="play this seed again, and show what happened")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"how many seeds, from 0 on (default {SEEDS:,})")
    parser.add_argument("--processes", type=int, default=2, help="how many real processes (default 2)")
    options = parser.parse_args()
    return again(options.seed) if options.seed is not None else many(options.seeds, options.processes)


def again(seed: int) -> int:
    """One seed, in full."""
    report = simulate(seed, keep_trace=True)
    file = Path(tempfile.gettempdir()) / f"cadenza-simulation-{seed}.txt"
    file.write_text("\n".join(report.lines) + "\n", "utf-8")
    print("\n".join(report.lines[-SHOWN_LINES:]))
    print(f"\nseed {seed}: {report.events:,} events in {report.virtual_s:.1f} virtual seconds, digest {report.digest}")
    print(f"all of them: {file}")
    for cause in report.causes:
        print(cause)
    for problem in report.problems:
        print(f"VIOLATION  {problem}")
    if not report.problems:
        print("no violation")
    return 1 if report.problems else 0


def many(seeds: int, processes: int) -> int:
    """All seeds from 0 on, with progress, and at the end what really went wrong in them."""
    began_s, counts, failed = time.monotonic(), Counter[str](), list[Report]()
    virtual_s = 0.0
    for played, report in enumerate(reports(seeds, processes), 1):
        virtual_s += report.virtual_s
        counts += report.counts
        if report.problems:
            failed.append(report)
            if len(failed) <= SHOWN_PROBLEMS:
                print(f"\rseed {report.seed}: {report.problems[0][:300]}\n    make sim SEED={report.seed}", flush=True)
        if played % (CHUNK if sys.stdout.isatty() else max(CHUNK, seeds // 10)) == 0 or played == seeds:
            rate = played / (time.monotonic() - began_s)
            end = "\r" if sys.stdout.isatty() and played < seeds else "\n"
            print(f"{played:,} of {seeds:,} seeds, {rate:.1f} a second, {len(failed)} failed", end=end, flush=True)
    table(counts)
    took_s = time.monotonic() - began_s
    print(f"\n{seeds:,} seeds and {virtual_s / 3600:.1f} virtual hours in {took_s:.0f} s")
    print(f"{len(failed)} seeds with violations" if failed else "no violation")
    return 1 if failed else 0


def reports(seeds: int, processes: int) -> Iterator[Report]:
    """The reports of all seeds, in order."""
    starts = range(0, seeds, CHUNK)
    if processes <= 1:
        for start in starts:
            yield from chunk(start, min(start + CHUNK, seeds))
        return
    with ProcessPoolExecutor(processes) as pool:
        for found in pool.map(chunk, starts, [min(start + CHUNK, seeds) for start in starts]):
            yield from found


def chunk(first: int, end: int) -> list[Report]:
    freeze()
    return [simulate(seed) for seed in range(first, end)]


def table(counts: Counter[str]) -> None:
    """What really happened, by name."""
    print("\nwhat happened:")
    names = sorted(counts)
    rows = -(-len(names) // 2)
    for left, right in zip(names[:rows], [*names[rows:], ""], strict=False):
        print(f"  {counts[left]:>9,}  {left:<42}", f"{counts[right]:>9,}  {right}" if right else "")


if __name__ == "__main__":
    sys.exit(main())
