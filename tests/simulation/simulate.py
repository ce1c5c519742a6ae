"""Plays one seed, and says how it went."""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.simulation.machine_room import MachineRoom, StoreKind, fast_folder
from tests.simulation.verdict import Verdict


@dataclass(frozen=True)
class Report:
    """How a seed went. ``digest`` is the same for the same seed and code; ``problems`` is empty if all was well."""

    seed: int
    problems: tuple[str, ...]
    digest: str
    events: int
    virtual_s: float
    counts: Counter[str]
    lines: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()


@functools.cache
def freeze() -> None:
    """What is loaded now stays: the collections between two seeds need not look at it."""
    simulate(0)
    gc.collect()
    gc.freeze()


def simulate(seed: int, store: StoreKind | None = None, *, keep_trace: bool = False) -> Report:
    """Play one seed. ``store`` is drawn by the seed if it is not given: SQLite in one of eight."""
    chosen: StoreKind = store or ("sqlite" if Random(f"{seed}:store").random() < 0.125 else "memory")
    with _quiet(), tempfile.TemporaryDirectory(prefix="cadenza-sim-", dir=fast_folder()) as folder:
        report = _play(MachineRoom(seed, chosen, Path(folder), keep_trace=keep_trace), chosen)
        gc.collect()
    return report


def _play(room: MachineRoom, store: StoreKind) -> Report:
    try:
        room.run()
        Verdict(room).judge()
    finally:
        room.close()
    room.counts[f"store: {store}"] += 1
    trace = room.scheduler.trace
    return Report(
        room.seed,
        tuple(room.problems),
        trace.digest,
        trace.count,
        room.scheduler.now_s,
        room.counts,
        tuple(trace.lines),
        tuple(room.causes),
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Dead processes are dropped half-way: what Python says about their coroutines is of no interest; nor is the log.

    Collecting garbage in the middle would run their clean-up code, so it waits until the end.
    """
    log, hook = logging.getLogger("cadenza"), sys.unraisablehook
    was_disabled, was_collecting = log.disabled, gc.isenabled()
    log.disabled = True
    sys.unraisablehook = lambda _: None
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.disabled, sys.unraisablehook = was_disabled, hook
        if was_collecting:
            gc.enable()
