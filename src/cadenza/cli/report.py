"""What ``cadenza run`` and ``cadenza resume`` say at the end: the result, or what waits, and how to go on."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from cadenza.cli import exit_codes
from cadenza.cli.board import Board, seconds
from cadenza.cli.failures import failure_text, raised_in_step
from cadenza.cli.follow import Outcome
from cadenza.cli.place import MEMORY, family, store_flag
from cadenza.cli.questions import Question, how_to_answer, open_questions
from cadenza.cli.streams import print_json, say
from cadenza.durable import events
from cadenza.durable.failure import Failure
from cadenza.engine.engine import Engine
from cadenza.engine.store import RunRow

SHOWN_MAX = 10


def report_end(
    engine: Engine, run_id: str, outcome: Outcome, board: Board, began: int, *, store: str, target: str, as_json: bool
) -> int:
    """Print how the run stands; returns the exit code."""
    row = engine.find(run_id)
    last = engine.store.last_event(row.no) if row.ended else None
    code = _code(outcome, row)
    if as_json:
        print_json(_as_json(engine, row, last, outcome))
        return code
    took = seconds(time.time_ns() // 1_000 - began)
    match last:
        case events.RunCompleted(value=value):
            before = row.ended_at < began
            say("✓ it had completed before" if before else f"✓ completed in {took}: {board.summary()}", "green")
            if value != b"null":
                print_json(json.loads(value))
        case events.RunFailed(failure=failure):
            how = "had failed before" if row.ended_at < began else f"failed after {took}: {board.summary()}"
            say(f"✗ run {row.run_id} {how}", "bold red")
            say(failure_text(failure))
            if (inner := raised_in_step(engine.store.events(row.no, row.first_seq), failure)) is not None:
                say(f"in {inner.path}: {failure_text(inner.failure)}")
            _look_at(row, store)
        case events.RunCancelled(reason=reason):
            say(f"– run {row.run_id} was cancelled" + (f": {reason}" if reason else ""), "bold red")
            _look_at(row, store)
        case _:
            _report_open(engine, row, outcome, store, target)
    if row.ended:
        _report_children(engine, row, store)
    return code


def _report_children(engine: Engine, row: RunRow, store: str) -> None:
    """Children that were started to go on beside their parent, and are not done."""
    left = [each for each in family(engine, row)[1:] if not each.ended]
    if left and store != MEMORY:
        runs = "A child run goes" if len(left) == 1 else f"{len(left)} child runs go"
        say(f"{runs} on: cadenza resume {left[0].run_id}{store_flag(store)}", "yellow")


def _code(outcome: Outcome, row: RunRow) -> int:
    if row.ended:
        return exit_codes.OK if row.status == "completed" else exit_codes.FAILED
    if outcome.how == "blocked":
        return exit_codes.BLOCKED
    return exit_codes.INTERRUPTED if outcome.how == "interrupted" else exit_codes.WAITING


def _report_open(engine: Engine, row: RunRow, outcome: Outcome, store: str, target: str) -> None:
    if store == MEMORY:
        say(f"Run {row.run_id} is not finished, and ends with this process: its store was in memory.", "yellow")
        return
    go_on = how_to_resume(row, store, target)
    match outcome.how:
        case "blocked":
            say(f"■ run {outcome.row.run_id} is blocked", "bold red")
            say(outcome.row.detail)
            say(f"After the fix: {go_on}")
        case "interrupted":
            say(f"Parked: run {row.run_id} is {_state(row)}. Nothing is lost.", "yellow")
            say(f"Go on with: {go_on}")
        case _:
            _report_waiting(engine, row, outcome, store, go_on)


def _state(row: RunRow) -> str:
    return "ready to go on" if row.status == "ready" else row.shown_status


def _report_waiting(engine: Engine, row: RunRow, outcome: Outcome, store: str, go_on: str) -> None:
    questions = outcome.questions or tuple(open_questions(engine, row.run_id))
    if not questions:
        say(f"Run {row.run_id} is parked. It waits for {_awaited(engine, row)}.", "yellow")
        name = next(iter(_message_names(engine, row)), "NAME")
        say(f"Send it: cadenza signal {row.run_id} {name} JSON{store_flag(store)}")
        say(f"Then go on with: {go_on}")
        return
    say(f"Run {row.run_id} is parked. It waits for {_people(len(questions))}:", "yellow")
    show_questions(questions, store)
    say(f"Then go on with: {go_on}")


def show_questions(questions: tuple[Question, ...] | list[Question], store: str) -> None:
    """Titles, and the command that answers each."""
    for question in questions[:SHOWN_MAX]:
        same_run = sum(each.run_id == question.run_id for each in questions)
        say(f"  ? {question.task.title}", "magenta")
        say(f"    {how_to_answer(question, store, only=same_run == 1)}")
    if len(questions) > SHOWN_MAX:
        say(f"  … and {len(questions) - SHOWN_MAX} more: cadenza answer --list{store_flag(store)}")


def _people(count: int) -> str:
    return "a person" if count == 1 else f"{count} answers"


def _message_names(engine: Engine, row: RunRow) -> list[str]:
    """Names of the messages that the run waited for when it was parked."""
    parked = engine.store.last_event(row.no)
    waiting = parked.waiting if isinstance(parked, events.Parked) else ()
    leaves = [path.rpartition("/")[2] for path in waiting]
    return [leaf.removeprefix("@receive:").rpartition("#")[0] for leaf in leaves if leaf.startswith("@receive:")]


def _awaited(engine: Engine, row: RunRow) -> str:
    names = _message_names(engine, row)
    if names:
        return "the message" + ("s " if len(names) > 1 else " ") + ", ".join(map(repr, names))
    return "something from outside: a message, or another run"


def how_to_resume(row: RunRow, store: str, target: str) -> str:
    """The command that goes on; with the file, where the run's module would not be found from here."""
    file = target.rpartition(":")[0] if ":" in target else target
    elsewhere = file.endswith(".py") and Path(file).expanduser().resolve().parent != Path.cwd()
    return f"cadenza resume {row.run_id}{f' {file}' if elsewhere else ''}{store_flag(store)}"


def _look_at(row: RunRow, store: str) -> None:
    if store != MEMORY:
        say(f"Look at it: cadenza show {row.run_id}{store_flag(store)}", "dim")


# --- JSON -------------------------------------------------------------------------------------------------------------


def failure_json(failure: Failure | None) -> dict[str, Any] | None:
    """A recorded failure, as scripts see it."""
    if failure is None:
        return None
    return {"type": failure.type, "message": failure.message, "cause": failure_json(failure.cause)}


def _as_json(engine: Engine, row: RunRow, last: events.AnyEvent | None, outcome: Outcome) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "run_id": row.run_id,
        "business_id": row.business_id,
        "workflow": row.workflow,
        "status": row.shown_status,
    }
    match last:
        case events.RunCompleted(value=value):
            shown["result"] = json.loads(value)
        case events.RunFailed(failure=failure):
            shown["failure"] = failure_json(failure)
        case events.RunCancelled(reason=reason, failure=failure):
            shown |= {"reason": reason, "failure": failure_json(failure)}
        case _:
            if outcome.how == "blocked":
                shown["blocked"] = {"run_id": outcome.row.run_id, "detail": outcome.row.detail}
            elif outcome.how == "waiting":
                shown["questions"] = [each.as_json() for each in outcome.questions]
                shown["messages"] = _message_names(engine, row)
    return shown
