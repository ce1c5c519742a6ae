"""What the terminal shows while the agents work: one line an agent, and how much of its work was replayed."""

import time
from collections import Counter, defaultdict
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

CAST = ("collector", "metadata_classifier", "text_classifier", "arbiter", "policy_check", "write_reports")
PER_PACKAGE = ("metadata_classifier", "text_classifier", "policy_check")
SHOWN = {"started": "at work", "replayed": "replayed", "failed": "failed"}
PLAIN_EVERY = 10  # without a terminal: one line for so many packages


class Progress:
    """Listens to the engine (`engine.observe`), draws itself in a `with` block. `packages` is how many are expected."""

    def __init__(self, packages: int, console: Console) -> None:
        self._packages, self._console = packages, console
        self._started_at = time.monotonic()
        self._states: dict[str, dict[str, str]] = defaultdict(dict)  # agent -> path -> its latest state
        self._packages_at: dict[str, str] = {}  # path -> the package that is worked on there
        self._live = Live(self, console=console, refresh_per_second=8) if console.is_terminal else None

    def __enter__(self) -> None:
        if self._live is not None:
            self._live.start()

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, record: Any) -> None:
        if record.name not in CAST:
            return
        if record.state == "progress":
            self._packages_at[record.path] = record.detail
            return
        self._states[record.name][record.path] = record.state
        if self._live is None and record.name == "policy_check" and record.state == "completed":
            counts = self._count("policy_check")
            if (done := counts["completed"] + counts["replayed"]) % PLAIN_EVERY == 0:
                self._console.print(f"{done} of {self._packages} packages reviewed")

    def __rich__(self) -> Table:
        table = Table.grid(padding=(0, 2))
        if not self._states:  # nothing happens: everything is done, or waits for a person
            return table
        for agent in CAST:
            counts = self._count(agent)
            done = counts["completed"] + counts["replayed"]
            total = self._packages if agent in PER_PACKAGE else max(1, sum(counts.values()))
            shown = f"{done}/{total}" if agent in PER_PACKAGE else f"{done}"
            remarks = ", ".join(f"{counts[state]} {word}" for state, word in SHOWN.items() if counts[state])
            table.add_row(agent, ProgressBar(total=total, completed=done, width=28), shown, f"[dim]{remarks}[/dim]")
        busy = [path for path, state in self._states["text_classifier"].items() if state == "started"]
        names = ", ".join(sorted(self._packages_at[path] for path in busy if path in self._packages_at))
        table.add_row(f"[dim]{time.monotonic() - self._started_at:.1f} s[/dim]")
        return table if not names else _with_line(table, names)

    def _count(self, agent: str) -> Counter[str]:
        return Counter(self._states[agent].values())


def _with_line(table: Table, names: str) -> Table:
    outer = Table.grid()
    outer.add_row(table)
    outer.add_row(f"[dim]reading {names[:100]}[/dim]")
    return outer
