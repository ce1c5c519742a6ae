"""A run where there is no terminal: one line for each thing that happens, and sums when it is too much to read."""

from __future__ import annotations

import sys
import time

from cadenza.cli.board import Board, Step, progress_text, seconds
from cadenza.engine.live import Live

LINES_MAX = 100
TROUBLE_MAX = 1_000
PAUSE_S = 2.0
MARKS = {
    "completed": "✓", "failed": "✗", "retrying": "↻ will be retried:", "waiting": "? asks:", "unknown": "? in doubt:",
    "cancelled": "– cancelled", "blocked": "■ blocked:",
}  # fmt: skip


class PlainView:
    """Listens to a board. Ended steps get a line each up to a bound; then there is a sum every two seconds."""

    def __init__(self, board: Board, began: int) -> None:
        self._board, self._began = board, began
        self._lines = self._trouble = 0
        self._next_s = 0.0
        self._last = self._noted = ""

    def begin(self) -> None:
        """Tell what has happened before, and listen from now on."""
        with self._board.lock:
            for step in list(self._board.steps.values()):
                self._tell(step)
            self._board.listener = self

    def __call__(self, step: Step, live: Live) -> None:
        """Take one change."""
        self._tell(step)

    def _tell(self, step: Step) -> None:
        mark = MARKS.get(step.state)
        if mark is None or not step.path:
            return
        if step.state == "completed":
            self._lines += 1
            if self._lines > LINES_MAX:
                return
            took = f"  {seconds(step.ended - step.began)}" if step.kind != "ask" else "  answered"
            self._print(f"{mark} {step.label}{took}")
            if self._lines == LINES_MAX:
                self._print("… from here on, sums")
            return
        self._trouble += 1
        if self._trouble <= TROUBLE_MAX:
            self._print(f"{mark} {step.label}  {progress_text(step.detail)}".rstrip())

    def tick(self) -> None:
        """Say how far it is, if that is news; called every now and then."""
        now_s = time.monotonic()
        if self._lines <= LINES_MAX or now_s < self._next_s:
            return
        self._next_s = now_s + PAUSE_S
        summary = self._board.summary()
        if summary != self._last:
            self._last = summary
            self._print(f"… {summary}")

    def note(self, text: str) -> None:
        """Say what the run waits for, once."""
        if text and text != self._noted:
            self._print(text.strip())
        self._noted = text

    def _print(self, line: str) -> None:
        elapsed_s = (time.time_ns() // 1_000 - self._began) / 1e6
        sys.stderr.write(f"{elapsed_s:8.2f} s  {line}\n")
        sys.stderr.flush()
