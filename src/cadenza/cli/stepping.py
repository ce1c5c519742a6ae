"""``cadenza run --step`` and ``--break NAME``: hold each call of a step until the person at the terminal lets it go.

A held call has not begun: nothing of it is in the journal, so the run can be parked there and goes on with it later.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections import deque
from typing import Any

from pydantic_core import to_jsonable_python

from cadenza.cli.asking import unless
from cadenza.cli.interrupts import Interrupts
from cadenza.cli.streams import clean, err, is_interactive, say
from cadenza.durable import events
from cadenza.engine.engine import Engine
from cadenza.engine.environment import Environment
from cadenza.engine.execution import Execution
from cadenza.errors import UsageError

PROMPT = "[n]ext, [c]ontinue, [i]nspect, [q]uit and park: "
VALUE_CHARS_MAX = 400
TAIL = 8
LOOK_S = 0.01


def refuse_without_terminal(*, as_json: bool) -> None:
    """Raises UsageError where nobody could say when to go on."""
    if as_json or not is_interactive():
        raise UsageError(
            "--step and --break ask at the terminal before a step runs, and there is none here. Nothing was started."
        )


class Stepper:
    """Holds calls of steps: all of them, or those that are named, by label or full name."""

    def __init__(self, *, every: bool, names: tuple[str, ...]) -> None:
        self._every, self._names = every, frozenset(names)
        self._queue: deque[Execution] = deque()
        self._asker: asyncio.Task[None] | None = None
        self._interrupts: Interrupts | None = None
        self._met: set[str] = set()

    def open(self, engine: Engine, interrupts: Interrupts) -> Engine:
        """Let ``engine``, which is not serving yet, ask here before it begins a call."""
        self._interrupts = interrupts
        made = engine.service.environment

        def environment(loop: asyncio.AbstractEventLoop) -> Environment:
            env = made(loop)
            env.begin = self.begin
            return env

        engine.service.environment = environment
        return engine

    def unmet(self) -> list[str]:
        """Breakpoints at which nothing has stopped."""
        return sorted(self._names - self._met)

    def begin(self, execution: Execution) -> None:
        """Begin a call, at once or when the person says so."""
        if execution.in_doubt or not (self._queue or self._holds(execution)):
            execution.start()
            return
        self._queue.append(execution)
        if self._asker is None:
            self._asker = asyncio.get_running_loop().create_task(self._ask())

    def _holds(self, execution: Execution) -> bool:
        named = self._names & {execution.step.label, execution.step.name}
        self._met |= named
        return self._every or bool(named)

    async def _ask(self) -> None:
        assert self._interrupts is not None
        stop = asyncio.create_task(self._interrupts.wait())
        try:
            while self._queue:
                execution = self._queue[0]
                if not (execution.cancelled or execution.runner.closed):
                    if self._holds(execution) and not stop.done():
                        await self._ask_about(execution, stop)
                    if stop.done():
                        await _rest(execution)
                    elif not (execution.cancelled or execution.runner.closed):
                        execution.start()
                self._queue.popleft()
        finally:
            stop.cancel()
            self._asker = None

    async def _ask_about(self, execution: Execution, stop: asyncio.Task[None]) -> None:
        """Until the call may go on, or everything is to stop."""
        assert self._interrupts is not None
        _show(execution, len(self._queue) - 1)
        while True:
            match await unless(stop, _read):
                case "" | "n":
                    self._every = True
                    return
                case "c":
                    self._every = False
                    return
                case "i":
                    _inspect(execution)
                case "q" | None:
                    self._interrupts.park()
                    await stop
                    return
                case other:
                    say(f"{other!r} is none of n, c, i, q.", "yellow")


async def _rest(execution: Execution) -> None:
    """Everything stops: the call rests until the run is released."""
    while not (execution.runner.draining or execution.runner.closed):  # noqa: ASYNC110  # a flag that others set
        await asyncio.sleep(LOOK_S)
    if not (execution.cancelled or execution.runner.closed):
        execution.start()


def _read() -> str | None:
    err().print(PROMPT, style="bold", end="")
    try:
        return input().strip().lower()[:1]
    except EOFError:
        return None


def _show(execution: Execution, others: int) -> None:
    step, command, console = execution.step, execution.command, err()
    console.print()
    console.print(clean(f"▪ {execution.path}"), style="bold cyan", soft_wrap=True)
    about = f"{step.name}, {step.settings.effect}, run {execution.runner.row.run_id}"
    if command.undo_of:
        about += f", undoes {command.undo_of}"
    if others:
        about += f"; {others} more wait behind it"
    console.print(clean(f"  {about}"), style="dim", soft_wrap=True)
    for name, value in _arguments(execution).items():
        console.print(clean(f"  {name} = {_text(value)}"), soft_wrap=True)


def _arguments(execution: Execution) -> dict[str, Any]:
    command = execution.command
    try:
        bound: inspect.BoundArguments = execution.step.parameters.bind(*command.args, **command.kwargs)
    except TypeError:
        return {"arguments": command.args, **command.kwargs}
    return dict(bound.arguments)


def _text(value: Any) -> str:
    text = json.dumps(to_jsonable_python(value, fallback=repr), ensure_ascii=False)
    return text if len(text) <= VALUE_CHARS_MAX else text[: VALUE_CHARS_MAX - 1] + "…"


def _inspect(execution: Execution) -> None:
    """What the run waits for, and the end of its journal."""
    runner = execution.runner
    waiting = ", ".join(runner.machine.waiting_for()) or "nothing"
    say(f"  run {runner.row.run_id}, generation {runner.machine.generation}; waits for: {waiting}")
    journal = runner.env.store.events(runner.row.no)
    if len(journal) > TAIL:
        say(f"  … {len(journal) - TAIL} events before", "dim")
    for number, event in list(enumerate(journal, 1))[-TAIL:]:
        say(f"  {number:>5}  {_event(event)}", "dim")


def _event(event: events.AnyEvent) -> str:
    field = events.PAYLOAD_FIELDS.get(type(event))
    raw: bytes = getattr(event, field) if field else b""
    value = raw.decode(errors="replace")
    text = f"{type(event).__name__} {getattr(event, 'path', '')}".rstrip()
    if failure := getattr(event, "failure", None):
        value = str(failure)
    return f"{text}  {value if len(value) <= 100 else value[:99] + '…'}".rstrip()
