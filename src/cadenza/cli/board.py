"""What is known of a run while it is watched: the live feed, summed up. Drawn by ``live_view`` and ``plain_view``.

The feed may lose notices and is told by the engine's loop, while a terminal is drawn by a thread; hence the lock, and
hence counts that are kept up to date instead of being counted anew for each picture.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cadenza.cli.streams import clean
from cadenza.engine.live import Live

OPEN = ("running", "retrying", "waiting", "unknown")
ENDED = ("completed", "failed", "cancelled", "replayed")
RUN_ENDED = ("completed", "failed", "cancelled")
STATE_OF: dict[str, str] = {
    "started": "running", "completed": "completed", "failed": "failed", "retrying": "retrying",
    "cancelled": "cancelled", "replayed": "replayed", "asked": "waiting", "answered": "completed", "unknown": "unknown",
}  # fmt: skip
WORDS = {
    "running": "running", "retrying": "to be retried", "waiting": "waiting for a person", "unknown": "in doubt",
    "failed": "failed", "cancelled": "cancelled", "blocked": "blocked",
}  # fmt: skip
Key = tuple[str, str]


@dataclass(slots=True)
class Step:
    """One path of one run. Times are microseconds since 1970; ``detail`` is its latest progress or failure."""

    run_id: str
    path: str
    kind: str
    name: str
    state: str
    began: int
    ended: int = 0
    attempt: int = 1
    detail: Any = None

    @property
    def label(self) -> str:
        """The path; in a child run with the end of its id before it."""
        child = self.run_id.partition(".")[2]
        return f"{child}:{self.path}" if child else self.path


@dataclass(slots=True)
class Board:
    """Observes an engine (``engine.observe(board)``). ``listener`` is told each change, without the lock."""

    steps: dict[Key, Step] = field(default_factory=dict[Key, Step])
    open: dict[Key, Step] = field(default_factory=dict[Key, Step])
    names: dict[str, Counter[str]] = field(default_factory=dict[str, Counter[str]])
    counts: Counter[str] = field(default_factory=Counter[str])
    parents: dict[str, Key] = field(default_factory=dict[str, Key])
    lock: threading.RLock = field(default_factory=threading.RLock)
    listener: Callable[[Step, Live], None] | None = None

    def __call__(self, live: Live) -> None:
        """Take one notice."""
        if live.kind == "run":
            step = self._run_changed(live)
        else:
            with self.lock:
                step = self._changed(live)
        if self.listener is not None and step is not None:
            self.listener(step, live)

    def _run_changed(self, live: Live) -> Step | None:
        """A child's end is shown at the place where its parent has started it; what it left open, nobody waits for."""
        with self.lock:
            if live.state in RUN_ENDED:
                for open_key, left in list(self.open.items()):
                    if left.run_id == live.run_id:
                        self._move(open_key, left, "cancelled", live)
            key = self.parents.get(live.run_id)
            if key is None:
                return Step(live.run_id, "", "run", live.name, live.state, live.at, detail=live.detail)
            step = self.steps[key]
            if live.state in (*RUN_ENDED, "blocked"):
                self._move(key, step, live.state, live)
                return step
        return None

    def _changed(self, live: Live) -> Step | None:
        key = live.run_id, live.path
        step = self.steps.get(key)
        if step is not None and live.state == "replayed" and step.state in ENDED:
            return None  # the run was taken up again in this process
        if step is None:
            step = self.steps[key] = Step(live.run_id, live.path, live.kind, live.name, "", live.at)
        if live.kind == "child" and live.state == "started":
            self.parents[str(live.detail)] = key
        if live.state == "progress":
            step.detail = live.detail if step.state not in ENDED else None  # the last one may come after the end
            return None
        if live.state == "started":
            step.attempt = live.detail if isinstance(live.detail, int) else 1
            step.began, step.ended = live.at, 0
        self._move(key, step, STATE_OF.get(live.state, live.state), live)
        return step

    def _move(self, key: Key, step: Step, state: str, live: Live) -> None:
        """Put a step into its new state, and keep the counts."""
        by_name = self.names.setdefault(_shown_name(step), Counter())
        if step.state:
            by_name[step.state] -= 1
            self.counts[step.state] -= 1
        by_name[state] += 1
        self.counts[state] += 1
        step.state = state
        if state in OPEN:
            self.open[key] = step
        else:
            self.open.pop(key, None)
            step.ended = live.at
        if state in ("failed", "retrying", "unknown", "blocked"):
            step.detail = live.detail
        elif state == "waiting":
            step.detail = live.name
        elif state != "running" or isinstance(live.detail, int):
            step.detail = None

    @property
    def done(self) -> int:
        return self.counts["completed"] + self.counts["replayed"]

    def summary(self) -> str:
        """One line: how many steps are where."""
        counts = self.counts
        parts = [f"{self.done:,} done"]
        if counts["replayed"]:
            parts[0] += f" ({counts['replayed']:,} replayed)"
        parts += [f"{counts[state]:,} {word}" for state, word in WORDS.items() if counts[state]]
        return ", ".join(parts)


def _shown_name(step: Step) -> str:
    """Questions and children are summed up by kind; their titles and ids are all different."""
    return {"ask": "questions", "child": step.name.rpartition(":")[2]}.get(step.kind, step.name)


def progress_text(detail: Any, width: int = 10) -> str:
    """A heartbeat's detail in a few words; ``{"done": 3, "of": 10}`` is a bar."""
    if detail is None:
        return ""
    if isinstance(detail, dict):
        pairs: dict[Any, Any] = detail  # pyright: ignore[reportUnknownVariableType]
        done, of = pairs.get("done"), pairs.get("of")
        if isinstance(done, int | float) and isinstance(of, int | float) and of > 0:
            filled = round(width * min(1.0, max(0.0, done / of)))
            return f"{'█' * filled}{'░' * (width - filled)} {done:,}/{of:,}"
        return clean(", ".join(f"{key} {value}" for key, value in pairs.items()))
    return clean(" ".join(str(detail).split()))


def seconds(microseconds: int) -> str:
    """A duration, as exact as one wants to read it."""
    s = max(0, microseconds) / 1_000_000
    if not s:
        return "0 s"
    if s < 1:
        return f"{s * 1_000_000:.0f} µs" if s < 0.001 else f"{s * 1_000:.1f} ms" if s < 0.01 else f"{s * 1_000:.0f} ms"
    if s < 60:
        return f"{s:.1f} s"
    minutes, rest = divmod(round(s), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"
