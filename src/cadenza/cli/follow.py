"""Follows one run until it has ended, is blocked, waits or is interrupted; asks people at the terminal."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from cadenza.cli.board import Board
from cadenza.cli.interrupts import Interrupts
from cadenza.cli.place import family
from cadenza.cli.questions import Question, open_questions
from cadenza.cli.streams import err, is_interactive
from cadenza.engine.engine import GRACE_S, Engine
from cadenza.engine.store import Filter, RunRow

How = Literal["ended", "blocked", "waiting", "interrupted"]
LOOK_S = 0.05
NOTE_S = 0.5
FAR_US = 5_000_000
"""A timer that is due later than this does not keep a person from being asked."""


@dataclass(frozen=True)
class Outcome:
    """How the following ended. ``row`` is the run that decides: itself, or a descendant that is blocked."""

    how: How
    row: RunRow
    questions: tuple[Question, ...] = ()


class Follower:
    """Follows ``run_id`` in an engine that this process drives.

    Args:
        board: observes the engine already.
        title, began: head the picture; ``began`` is microseconds since 1970.
        quiet: draw nothing and ask nobody.
        plain: write lines instead of drawing, at a terminal too.
    """

    def __init__(
        self,
        engine: Engine,
        run_id: str,
        board: Board,
        interrupts: Interrupts,
        *,
        title: str,
        began: int,
        quiet: bool,
        plain: bool = False,
    ) -> None:
        self._engine, self._run_id, self._board, self._interrupts = engine, run_id, board, interrupts
        self._title, self._quiet, self._plain = title, quiet, plain
        self._began = began
        self._note: Callable[[str], None] = lambda _: None
        self._tick: Callable[[], None] = _nothing
        self._last_picture: Callable[[], None] = _nothing
        self._later: set[tuple[str, str, int]] = set()

    async def follow(self) -> Outcome:
        """Until nothing more will happen here. An interrupted run is drained first. Raises StoreError."""
        stop = asyncio.create_task(self._interrupts.wait())
        try:
            while True:
                with self._drawn():
                    outcome = await self._watch(stop)
                    if outcome.how == "interrupted":
                        outcome = await self._park()
                if outcome.how != "waiting" or self._quiet or not is_interactive():
                    return outcome
                answered = await self._ask(outcome, stop)
                if stop.done():
                    return await self._park()
                if not answered:
                    return outcome
        finally:
            stop.cancel()
            self._last_picture()

    async def _watch(self, stop: asyncio.Task[None]) -> Outcome:
        engine = self._engine
        ended = asyncio.create_task(engine.ended(self._run_id))
        noted_s = 0.0
        try:
            while True:
                await asyncio.wait({ended, stop}, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
                if ended.done():
                    ended.result()  # raises StoreError if the store failed us
                    row = engine.find(self._run_id)
                    if row.ended or row.status == "blocked":
                        return Outcome("ended" if row.ended else "blocked", row)
                    ended = asyncio.create_task(engine.ended(self._run_id))
                if stop.done():
                    return Outcome("interrupted", engine.find(self._run_id))
                row = engine.find(self._run_id)
                if (outcome := self._settled(row)) is not None:
                    return outcome
                if time.monotonic() >= noted_s:
                    noted_s = time.monotonic() + NOTE_S
                    self._note(self._waits_for(row))
                self._tick()
        finally:
            ended.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await ended

    def _settled(self, row: RunRow) -> Outcome | None:
        """Whether nothing will happen until somebody answers, sends a message, or mends the code."""
        if not self._is_quiet(row):
            return None
        rows = family(self._engine, row)
        questions = tuple(open_questions(self._engine, row.run_id))
        if questions:
            return Outcome("waiting", row, questions)
        if not self._engine.is_settled(row):
            return None  # a timer is due later
        blocked = next((each for each in rows if each.status == "blocked"), None)
        return Outcome("blocked", blocked) if blocked is not None else Outcome("waiting", row)

    def _is_quiet(self, row: RunRow) -> bool:
        if row.ended or row.status == "blocked":
            return True
        if row.status != "waiting" or (row.wake_at and row.wake_at < time.time_ns() // 1_000 + FAR_US):
            return False
        if self._engine.runs(Filter(("ready", "running"), parent=row.run_id, limit=1)):
            return False
        waiting = self._engine.runs(Filter(("waiting",), parent=row.run_id, limit=1_000))
        return all(self._is_quiet(each) for each in waiting)

    def _waits_for(self, row: RunRow) -> str:
        """What to say of a run in which nothing happens here."""
        if row.status == "waiting" and row.wake_at:
            return f"  waits until {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(row.wake_at / 1e6))}"
        if row.status == "ready" and row.concurrency and not row.epoch:
            return f"  waits its turn: {row.concurrency} at a time of {row.concurrency_key}"
        if row.status == "running" and row.owner and row.owner != self._engine.owner:
            return f"  runs in another process (worker {row.owner})"
        return ""

    # --- pictures ---------------------------------------------------------------------------------------------------

    @contextmanager
    def _drawn(self) -> Generator[None]:
        """Draws the board while the body runs."""
        if self._quiet:
            yield
        elif err().is_terminal and not err().is_dumb_terminal and not self._plain:
            yield from self._drawn_live()
        else:
            from cadenza.cli.plain_view import PlainView

            view = PlainView(self._board, self._began)
            view.begin()
            self._note, self._tick = view.note, view.tick
            yield
            self._board.listener = None

    def _drawn_live(self) -> Iterator[None]:
        from rich.live import Live

        from cadenza.cli.live_view import LiveView

        view = LiveView(self._board, self._title, self._began)

        def note(text: str) -> None:
            view.note = text

        self._note, self._last_picture = note, lambda: err().print(view)
        with Live(view, console=err(), refresh_per_second=8, transient=True, vertical_overflow="crop"):
            yield
            view.note = ""

    # --- leaving ----------------------------------------------------------------------------------------------------

    async def _park(self) -> Outcome:
        """Let steps in flight end, for ten seconds at most, and release the run."""
        worker = self._engine.worker
        assert worker is not None
        running = self._board.counts["running"]
        if running and not self._quiet:
            steps = "the step" if running == 1 else f"{running} steps"
            err().print(
                f"Parking: waiting up to {GRACE_S:.0f} s for {steps} in flight; Ctrl-C again stops at once.",
                soft_wrap=True,
            )
        await worker.drain(GRACE_S)
        row = self._engine.find(self._run_id)
        return Outcome("ended" if row.ended else "blocked" if row.status == "blocked" else "interrupted", row)

    async def _ask(self, outcome: Outcome, stop: asyncio.Task[None]) -> bool:
        """Ask the person at the terminal what was not put off before; returns whether anything was answered."""
        from cadenza.cli.asking import ask, unless

        answered = False
        for question in outcome.questions:
            if question.key in self._later:
                continue
            answer = await unless(stop, lambda question=question: ask(question))
            if stop.done():
                break
            if answer is None:
                self._later.add(question.key)
            elif any(each.key == question.key for each in open_questions(self._engine, outcome.row.run_id)):
                await self._engine.answer(question.run_id, question.path, answer, asked_at=question.asked_at)
                answered = True
            else:
                err().print("Somebody else has answered that meanwhile.", style="yellow")
        return answered


def _nothing() -> None:
    """Where there is no picture."""
