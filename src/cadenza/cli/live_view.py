"""The picture of a run in a terminal: the tree of its steps while it fits, else counts by name and what runs now.

The height is bounded by the terminal, and a picture costs what it shows, so thousands of steps are no slower than ten.
"""

from __future__ import annotations

import heapq
import re
import time
from collections.abc import Iterator

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from cadenza.cli.board import Board, Step, progress_text, seconds

STYLES = {
    "running": ("▸", "cyan"), "retrying": ("↻", "yellow"), "waiting": ("?", "magenta"), "unknown": ("?", "bold yellow"),
    "completed": ("✓", "green"), "replayed": ("✓", "dim green"), "failed": ("✗", "red"), "cancelled": ("–", "dim"),
    "blocked": ("■", "bold red"),
}  # fmt: skip
LEAVE_LINES = 3
NAMES_MAX = 12
BRANCH = re.compile(r"b(\d+)\Z")


class LiveView:
    """A Rich renderable; ``title`` heads it, ``note`` ends it."""

    def __init__(self, board: Board, title: str, began: int) -> None:
        self.board, self.title, self.began = board, title, began
        self.note = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        height = max(6, (options.height or console.height) - LEAVE_LINES)
        with self.board.lock:
            lines = list(self._lines(height))
        for line in lines:
            line.no_wrap, line.overflow = True, "ellipsis"
            yield line

    def _lines(self, height: int) -> Iterator[Text]:
        now = time.time_ns() // 1_000
        head = Text(self.title, style="bold")
        head.append(f"  {seconds(now - self.began)}", style="cyan")
        head.append(f"  {self.board.summary()}", style="dim")
        yield head
        room = height - 1 - bool(self.note)
        tree = _Tree(self.board, room, now).lines() if len(self.board.steps) <= room else None
        yield from tree if tree is not None else _Counts(self.board, room, now).lines()
        if self.note:
            yield Text(self.note, style="yellow")


class _Tree:
    """All steps, by branch and child run; None if that is more than ``room`` lines."""

    def __init__(self, board: Board, room: int, now: int) -> None:
        self._board, self._room, self._now = board, room, now
        self._children: dict[tuple[str, str], list[str]] = {}
        self._leaves: dict[tuple[str, str], list[Step]] = {}

    def lines(self) -> list[Text] | None:
        roots = self._place()
        lines: list[Text] = []
        for run_id in roots:
            self._branch(run_id, "", "", lines)
            if len(lines) > self._room:
                return None
        return lines

    def _place(self) -> list[str]:
        """Sort steps into branches; returns the runs that have no parent here."""
        roots: dict[str, None] = {}
        for step in self._board.steps.values():
            if step.run_id not in self._board.parents:
                roots[step.run_id] = None
            branch = step.path.rpartition("/")[0]
            self._leaves.setdefault((step.run_id, branch), []).append(step)
            while branch:
                above = branch.rpartition("/")[0]
                below = self._children.setdefault((step.run_id, above), [])
                if branch in below:
                    break
                below.append(branch)
                branch = above
        return list(roots)

    def _branch(self, run_id: str, branch: str, indent: str, lines: list[Text]) -> None:
        """The steps and branches of a branch, in the order in which they began; a branch of one step is one line."""
        entries: list[tuple[int, Step | str]] = [(step.began, step) for step in self._leaves.get((run_id, branch), ())]
        entries += [(self._began(run_id, each), each) for each in self._children.get((run_id, branch), ())]
        entries.sort(key=lambda entry: entry[0])
        for index, (_, entry) in enumerate(entries):
            if len(lines) > self._room:
                return
            last = index == len(entries) - 1
            guide, below = ("└ ", "  ") if last else ("├ ", "│ ")
            step = self._single(run_id, entry) if isinstance(entry, str) else entry
            if step is not None:
                lines.append(_line(step, indent + guide, self._now, branch))
                child = _child_of(self._board, step)
                if child:
                    self._branch(child, "", indent + below, lines)
            else:
                assert isinstance(entry, str)
                lines.append(Text.assemble((indent + guide, "dim"), (entry.rpartition("/")[2], "dim")))
                self._branch(run_id, entry, indent + below, lines)

    def _single(self, run_id: str, branch: str) -> Step | None:
        """The step of a branch that has just one."""
        if (run_id, branch) in self._children:
            return None
        leaves = self._leaves.get((run_id, branch), [])
        return leaves[0] if len(leaves) == 1 else None

    def _began(self, run_id: str, branch: str) -> int:
        times = [step.began for step in self._leaves.get((run_id, branch), ())]
        times += [self._began(run_id, each) for each in self._children.get((run_id, branch), ())]
        return min(times)


class _Counts:
    """Counts by name, then what runs now, oldest first, as far as there is room."""

    def __init__(self, board: Board, room: int, now: int) -> None:
        self._board, self._room, self._now = board, room, now

    def lines(self) -> Iterator[Text]:
        board = self._board
        names = [name for name, counts in board.names.items() if any(counts.values())]
        shown = names[: max(1, min(NAMES_MAX, self._room // 2))]
        width = max((len(name) for name in shown), default=0)
        for name in shown:
            counts = board.names[name]
            line = Text(f"  {name:<{width}}")
            for state, (mark, style) in STYLES.items():
                if counts[state]:
                    line.append(f"  {counts[state]:,} {mark}", style=style)
            yield line
        room = self._room - len(shown)
        if len(names) > len(shown):
            yield Text(f"  … and {len(names) - len(shown)} more names", style="dim")
            room -= 1
        count = len(board.open)
        room = room if count <= room else room - 1
        for step in heapq.nsmallest(room, board.open.values(), key=lambda step: step.began):
            yield _line(step, "  ", self._now, None)
        if count > room:
            yield Text(f"  … and {count - room:,} more", style="dim")


def _line(step: Step, indent: str, now: int, branch: str | None) -> Text:
    """One step: in a tree without its ``branch``, outside of one (None) with its child run."""
    mark, style = STYLES.get(step.state, ("·", ""))
    path = step.label if branch is None else step.path.removeprefix(f"{branch}/")
    line = Text.assemble((indent, "dim"), (f"{mark} ", style), path)
    if step.state == "waiting":
        line.append(f"  {progress_text(step.detail)}", style="magenta")
    elif step.state in ("running", "retrying", "unknown"):
        line.append(f"  {seconds(now - step.began)}", style="cyan")
    elif step.state != "replayed" and step.ended:
        line.append(f"  {seconds(step.ended - step.began)}", style="dim")
    if step.state == "replayed":
        line.append("  replayed", style="dim")
    if step.attempt > 1:
        line.append(f"  attempt {step.attempt}", style="yellow")
    if step.kind == "ask" and step.state == "completed" and step.name != "ask":
        line.append(f"  {step.name}", style="dim")
    if step.state != "waiting" and step.detail is not None:
        line.append(f"  {progress_text(step.detail)}", style="red" if step.state in ("failed", "blocked") else "dim")
    return line


def _child_of(board: Board, step: Step) -> str:
    if step.kind != "child":
        return ""
    key = step.run_id, step.path
    return next((run_id for run_id, parent in board.parents.items() if parent == key), "")
