"""What the terminal shows while the agents work. It listens to the engine's live feed, and never decides anything."""

from collections import Counter
from typing import Any

from rich.console import Console

ENDS = ("verifier", "note_gap")  # the last step of each company


class Progress:
    """One line for each company, and one for what is worth knowing: retries, gaps, the budget."""

    def __init__(self, console: Console, total: int) -> None:
        self._console, self._total = console, total
        self._names: dict[str, str] = {}  # path -> the company that ends there
        self._ended: dict[str, str] = {}  # path -> how we first heard of it: a run that is evicted is replayed, too

    def __call__(self, live: Any) -> None:
        if live.name in ENDS and live.state == "progress":
            self._names[live.path] = live.detail
        elif live.name in ENDS and live.state in ("completed", "replayed") and live.path not in self._ended:
            self._ended[live.path] = live.state
            if live.state == "completed":
                kind = "done" if live.name == "verifier" else "gap"
                name = self._names.get(live.path, "")
                self._say(f"{len(self._ended)} of {self._total}  {name}: {kind}", "yellow" * (kind == "gap"))
        elif live.state == "retrying":
            self._say(f"    {live.name} again: {live.detail}", "dim")
        elif live.name == "budget_warning" and live.state == "completed":
            text = live.detail.decode() if isinstance(live.detail, bytes) else str(live.detail)
            self._say(f"    {text.strip(chr(34))}", "yellow")

    @property
    def replayed(self) -> int:
        """How many companies an earlier process had finished."""
        return Counter(self._ended.values())["replayed"]

    def _say(self, text: str, style: str = "") -> None:
        self._console.print(text, style=style or None, markup=False, soft_wrap=True)
