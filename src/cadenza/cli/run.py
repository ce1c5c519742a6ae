"""``cadenza run`` and ``cadenza resume``: drive one run in this process, and show it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer

from cadenza.cli.board import Board
from cadenza.cli.completion import run_ids, targets
from cadenza.cli.interrupts import Interrupts
from cadenza.cli.place import JsonOption, StoreOption, existing, family, location
from cadenza.cli.selection import (
    Choice,
    DryRunOption,
    StatusOption,
    WhereOption,
    WorkflowOption,
    YesOption,
    filter_of,
    over_all,
)
from cadenza.cli.streams import say
from cadenza.engine.engine import Engine
from cadenza.engine.options import EngineOptions
from cadenza.engine.store import RunRow
from cadenza.errors import StoreError, UnknownName, UsageError

if TYPE_CHECKING:
    from cadenza.cli.stepping import Stepper

VerifyOption = Annotated[
    bool,
    typer.Option(
        "--verify/--no-verify", help="Replay the run when it has ended, to find code that cannot be replayed."
    ),
]
StepOption = Annotated[bool, typer.Option("--step", help="Stop before each step, show its input, and ask.")]
BreakOption = Annotated[
    list[str] | None,
    typer.Option("--break", metavar="NAME", help="Stop before each call of this step; may be repeated."),
]
Begun = tuple[str, str]
"""The run to follow, and the one that it replaces (empty if none)."""
TargetArgument = Annotated[
    str,
    typer.Argument(
        metavar="TARGET",
        autocompletion=targets,
        help="FILE.py:WORKFLOW, MODULE:WORKFLOW, or either alone if it has just one.",
    ),
]
InputArgument = Annotated[
    str | None, typer.Argument(metavar="INPUT", help="The input: JSON, @file.json, or - for standard input.")
]


def run(
    target: TargetArgument,
    input: InputArgument = None,
    *,
    id: Annotated[str, typer.Option("--id", help="A business id, unique in the store.")] = "",
    on_conflict: Annotated[
        Literal["reject", "join", "replace"],
        typer.Option("--on-conflict", help="If the id is taken: refuse, watch that run, or cancel it and start anew."),
    ] = "reject",
    priority: Annotated[int, typer.Option("--priority", help="Higher is claimed first.")] = 0,
    store: StoreOption = "cadenza.db",
    verify: VerifyOption = True,
    step: StepOption = False,
    breaks: BreakOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start a run and watch it. Ctrl-C parks it; its result goes to standard output.

    \b
    cadenza run workflows.py:triage @ticket.json
    """
    from cadenza.cli.target import find_workflow, read_input

    stepper = _stepper(step, breaks, as_json)
    workflow = find_workflow(target)
    value = read_input(input, workflow)

    async def begin(engine: Engine) -> Begun:
        before = _find(engine, id) if id else None
        handle = await engine.start(workflow, value, id=id, on_conflict=on_conflict, priority=priority)
        if before is None:
            return handle.run_id, ""
        if before.run_id != handle.run_id:
            await engine.resume(before.run_id)  # it was replaced: somebody must cancel it
            return handle.run_id, before.run_id
        if not as_json:
            say(f"The id {id!r} belongs to run {before.run_id} ({before.shown_status}): joining it.", "yellow")
        await go_on(engine, before)
        return handle.run_id, ""

    raise typer.Exit(_drive(begin, store, target, verify=verify, as_json=as_json, stepper=stepper))


def resume(
    run_id: Annotated[
        str,
        typer.Argument(
            metavar="RUN", autocompletion=run_ids, help="A run's id, its beginning, or its business id; or choose many."
        ),
    ] = "",
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="The file or module of its workflow, if it is not in this folder.")
    ] = "",
    *,
    where: WhereOption = None,
    status: StatusOption = None,
    workflow: WorkflowOption = "",
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    store: StoreOption = "cadenza.db",
    verify: VerifyOption = True,
    step: StepOption = False,
    breaks: BreakOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go on with a run: one that was parked, whose process died, or that is blocked and whose code was mended.

    Many runs are left to the workers: those that are blocked get another try.
    """
    if (filter := filter_of(where, status, workflow, run_id)) is not None:

        async def unblock(engine: Engine, row: RunRow) -> None:
            await engine.resume(row.run_id)

        named = filter if filter.status else msgspec.structs.replace(filter, status=("blocked",))
        over_all(store, named, unblock, "given to the workers for another try", Choice(yes, dry_run, children=True))
        return
    stepper = _stepper(step, breaks, as_json)
    path = existing(store)
    row = asyncio.run(_look_up(store, run_id))
    if not row.ended:
        from cadenza.cli import target as modules

        if target:
            modules.load(target.rpartition(":")[0] if ":" in target else target)
        modules.load_for(row.workflow, [Path.cwd(), path.parent])

    async def begin(engine: Engine) -> Begun:
        await go_on(engine, engine.find(row.run_id))
        return row.run_id, ""

    raise typer.Exit(_drive(begin, store, target, verify=verify, as_json=as_json, stepper=stepper))


async def _look_up(store: str, run_id: str) -> RunRow:
    async with Engine.open(existing(store), EngineOptions(worker=False)) as engine:
        return engine.find(run_id)


def _find(engine: Engine, run_id: str) -> RunRow | None:
    try:
        return engine.find(run_id)
    except (UnknownName, UsageError):
        return None


async def go_on(engine: Engine, row: RunRow) -> None:
    """Take up a run with its children, and give those that are blocked another try."""
    for each in family(engine, row):
        if each.run_id == row.run_id or each.status == "blocked":
            await engine.resume(each.run_id)


# --- driving ----------------------------------------------------------------------------------------------------------


def _stepper(step: bool, breaks: list[str] | None, as_json: bool) -> Stepper | None:
    """Raises UsageError where there is no terminal to ask at."""
    if not step and not breaks:
        return None
    from cadenza.cli.stepping import Stepper, refuse_without_terminal

    refuse_without_terminal(as_json=as_json)
    return Stepper(every=step, names=tuple(breaks or ()))


def _drive(
    begin: Callable[[Engine], Awaitable[Begun]],
    store: str,
    target: str,
    *,
    verify: bool,
    as_json: bool,
    stepper: Stepper | None = None,
) -> int:
    """Open the store, begin, follow, report; returns the exit code. Raises CadenzaError."""
    log_to_terminal(ends=True)

    async def main(interrupts: Interrupts) -> int:
        from cadenza.cli.follow import Follower
        from cadenza.cli.report import how_to_resume, report_end

        engine = Engine.open(location(store), EngineOptions(verify_replay=verify))
        async with stepper.open(engine, interrupts) if stepper is not None else engine as engine:
            board = Board()
            engine.observe(board)
            began = time.time_ns() // 1_000
            run_id, replaced = await begin(engine)
            row = engine.find(run_id)
            title = f"{row.workflow.rpartition(':')[2]}  {run_id}"
            if not as_json:
                say(f"Run {run_id} of {row.workflow} in {store}", "dim")
            plain = stepper is not None
            follower = Follower(engine, run_id, board, interrupts, title=title, began=began, quiet=as_json, plain=plain)
            try:
                outcome = await follower.follow()
            except StoreError as error:
                error.add_note(f"Then go on with: {how_to_resume(row, store, target)}")
                raise
            code = report_end(engine, run_id, outcome, board, began, store=store, target=target, as_json=as_json)
            if stepper is not None and outcome.how == "ended" and (unmet := stepper.unmet()):
                say(f"No step {' or '.join(map(repr, unmet))} was called here.", "yellow")
            if replaced and not (old := engine.find(replaced)).ended:
                say(f"Run {replaced}, which it replaces, has yet to clean up: {how_to_resume(old, store, target)}")
            await engine.close(0.2 if outcome.how != "ended" else 2.0)
            return code

    with Interrupts() as interrupts:
        return asyncio.run(main(interrupts))


class _Remarks(logging.Handler):
    """The engine's warnings, one line each, above the picture; none twice in a row."""

    def __init__(self, *, ends: bool) -> None:
        super().__init__(logging.WARNING)
        self._ends, self._last = ends, ""

    def emit(self, record: logging.LogRecord) -> None:
        if self._ends and isinstance(record.args, tuple) and any(isinstance(each, StoreError) for each in record.args):
            return  # the command ends with it
        message = record.getMessage()
        if message != self._last:
            self._last = message
            style = "red" if record.levelno >= logging.ERROR else "yellow"
            say(f"{record.levelname.lower()}: {message}", style)


def log_to_terminal(*, ends: bool) -> None:
    """Show what the engine logs, from warnings up; ``ends`` if an error of the store ends the command."""
    logger = logging.getLogger("cadenza")
    logger.addHandler(_Remarks(ends=ends))
    logger.propagate = False
