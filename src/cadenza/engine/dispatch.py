"""What becomes of each command: timers, tasks, children, messages, steps, and the end of the run."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from cadenza.durable import codec, commands, events
from cadenza.durable.failure import Failure
from cadenza.durable.human import HumanTask
from cadenza.durable.path import idempotency_key
from cadenza.durable.versioning import ENGINE_FLAGS
from cadenza.engine.execution import Execution
from cadenza.engine.on_failure import error_run
from cadenza.engine.store import Change, NewRun, OpenTaskRow, Post, Posting, RunRow
from cadenza.errors import InboxFull, StoreError

if TYPE_CHECKING:
    from cadenza.engine.runner import Runner

log = logging.getLogger("cadenza")
INBOX_RETRY_S = 0.5


class Dispatcher:
    """Carries out the commands of one runner's machine."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._timers: dict[str, tuple[int, asyncio.TimerHandle]] = {}
        self._births: dict[str, int] = {}
        self.sending: set[str] = set()
        self.ending: commands.Ending | None = None

    # --- commands -------------------------------------------------------------------------------------------------

    def resume(self, replayed: list[commands.Command]) -> None:
        """After a replay: do what has no outcome yet, and what the crash kept from being said."""
        runner = self._runner
        ledger, machine = runner.ledger, runner.machine
        known = machine.patches.journaled
        for command in replayed:
            match command:
                case commands.Finish():
                    self.dispatch(command)
                case commands.RecordPatch(id=id):
                    if id not in known:
                        self.dispatch(command)
                case commands.SetAttributes(path=path):
                    if path not in ledger.attributes:
                        self.dispatch(command)
                case commands.AcceptUpdate(id=id) | commands.AnswerUpdate(id=id):
                    accepts = isinstance(command, commands.AcceptUpdate)
                    if (events.UpdateAccepted if accepts else events.UpdateAnswered, id) not in ledger.updates:
                        self.dispatch(command)
                case commands.Cancel(path=path):
                    if path in ledger.tasks or (path in ledger.children and path not in ledger.cancels):
                        self.dispatch(command)
                case _:
                    if command.path in machine.open:
                        self.dispatch(command)

    def dispatch(self, command: commands.Command) -> None:
        runner = self._runner
        match command:
            case commands.RunStep(path=path):
                execution = Execution(runner, command)
                runner.executions[path] = execution
                (runner.env.begin or Execution.start)(execution)
            case commands.StartTimer(path=path, fire_at=fire_at):
                self._start_timer(path, fire_at)
            case commands.OpenTask():
                self._open_task(command)
            case commands.StartChild(path=path):
                if path not in runner.ledger.children:
                    self._start_child(command)
            case commands.SendMessage(path=path, to=to):
                self.sending.add(path)
                runner.gate(path, lambda: self._send(command), self._births.get(to, 0))
            case commands.Cancel(path=path):
                self._cancel(path)
            case commands.SetAttributes(path=path, values=values):
                runner.journal.set_attributes(events.AttributesSet(at=runner.now(), path=path, values=values))
            case commands.AcceptUpdate(id=id):
                runner.journal.record(events.UpdateAccepted(at=runner.now(), id=id))
            case commands.AnswerUpdate(id=id, value=value, failure=failure, refused=refused):
                answered = events.UpdateAnswered(at=runner.now(), id=id, value=value, failure=failure, refused=refused)
                runner.journal.record(answered)
            case commands.RecordPatch(id=id):
                runner.raise_barrier(runner.journal.record(events.Patched(at=runner.now(), id=id)))
            case commands.Finish(ending=ending):
                self.ending = ending
            case _:
                pass

    def _start_timer(self, path: str, fire_at: int) -> None:
        delay_s = max(0.0, (fire_at - self._runner.now()) / 1_000_000)
        self._timers[path] = fire_at, self._runner.env.loop.call_later(delay_s, self._fire, path)

    def _fire(self, path: str) -> None:
        runner = self._runner
        if runner.closed or runner.closing:
            return
        fire_at, _ = self._timers.pop(path)
        runner.outcome(events.TimerFired(at=runner.now(fire_at), path=path, fire_at=fire_at), behind=True)
        runner.settle_soon()

    def _open_task(self, command: commands.OpenTask) -> None:
        runner = self._runner
        if command.path in runner.ledger.tasks:
            return
        now, raw = runner.now(), codec.encode(command.task, HumanTask, "the task")
        row = OpenTaskRow(runner.row.run_id, command.path, raw, now, runner.machine.generation)
        event = events.TaskOpened(at=now, path=command.path, task=raw, input_hash=command.input_hash)
        runner.journal.record(event, task_opened=row)
        runner.tell(command.path, "ask", command.task.title, "asked")

    def _start_child(self, command: commands.StartChild) -> None:
        runner = self._runner
        now = runner.now()
        started = events.RunStarted(
            at=now,
            run_id=command.run_id,
            workflow=command.name,
            input=command.input,
            flags=ENGINE_FLAGS,
            parent=runner.row.run_id,
            parent_path=command.path,
        )
        child = new_run(started, runner.row.priority)
        event = events.ChildStarted(
            at=now, path=command.path, run_id=command.run_id, workflow=command.name, input_hash=command.input_hash
        )
        self._births[command.run_id] = runner.journal.record(event, child=child)
        runner.tell(command.path, "child", command.name, "started", command.run_id)

    def _send(self, command: commands.SendMessage) -> None:
        runner = self._runner
        machine = runner.machine
        key = idempotency_key(machine.run_id, machine.generation, command.path)
        letter = events.MessageReceived(at=runner.now(), name=command.name, value=command.value, sender=machine.run_id)
        posting = Posting(command.to, letter, key=key, bounded=True)

        def done(row: RunRow | None, error: Exception | None) -> None:
            if runner.closed:
                return
            if isinstance(error, InboxFull):
                runner.env.loop.call_later(INBOX_RETRY_S, self._send, command)
                return
            if isinstance(error, StoreError):
                runner.refused(error)
                return
            self.sending.discard(command.path)
            failure = None if error is None else Failure.of(error)
            event = events.MessageSent(
                at=runner.now(),
                path=command.path,
                to=command.to,
                name=command.name,
                failure=failure,
                input_hash=command.input_hash,
            )
            runner.env.nudge()
            runner.outcome(event)

        runner.env.store.submit(Post(posting, runner.now()), done)

    def _cancel(self, path: str) -> None:
        runner = self._runner
        if path in self._timers:
            self._timers.pop(path)[1].cancel()
        elif path in runner.executions:
            execution = runner.executions.pop(path)
            if path in runner.ledger.tasks or ((entry := runner.ledger.at(path)) is not None and entry.doubt):
                runner.journal.close_task(path)
            execution.cancel()
        elif path in runner.ledger.tasks:
            event = events.StepCancelled(at=runner.now(), path=path, name="ask")
            runner.journal.record(event, task_closed=path)
            runner.tell(path, "ask", "ask", "cancelled")
        elif path in runner.ledger.children and path not in runner.ledger.cancels:
            run_id = runner.ledger.children[path]
            letter = events.CancelRequested(at=runner.now(), reason=f"its parent {runner.row.run_id} no longer waits")
            runner.journal.record(
                events.CancelSent(at=runner.now(), path=path, run_id=run_id),
                posting=Posting(run_id, letter, key=f"cancel:{path}"),
            )

    # --- the end --------------------------------------------------------------------------------------------------

    def closing_events(self, ending: commands.Ending) -> tuple[list[events.AnyEvent], Change, Posting | None]:
        """The last events of this generation, the run's new status, and what its parent is told."""
        runner = self._runner
        row, now = runner.row, runner.now()
        match ending:
            case commands.Completed(value=value):
                last: events.Terminal = events.RunCompleted(at=now, value=value)
                told = events.ChildEnded(
                    at=now, path=row.parent_path, run_id=row.run_id, status="completed", value=value
                )
                change = Change("completed", ended_at=now)
            case commands.Failed(failure=failure):
                last = events.RunFailed(at=now, failure=failure)
                told = events.ChildEnded(
                    at=now, path=row.parent_path, run_id=row.run_id, status="failed", failure=failure
                )
                change = Change("failed", ended_at=now, detail=str(failure))
                handler = error_run(runner.machine.workflow, row, runner.journal.head + 1, last)
                if handler is not None:
                    runner.journal.start_with_next(_handling(handler, row.priority))
            case commands.Cancelled(reason=reason, failure=failure):
                last = events.RunCancelled(at=now, reason=reason, failure=failure)
                told = events.ChildEnded(
                    at=now, path=row.parent_path, run_id=row.run_id, status="cancelled", failure=failure
                )
                change = Change("cancelled", ended_at=now, detail=str(failure) if failure else reason)
            case commands.Continued(input=raw):
                carried = runner.machine.carry()
                generation = runner.machine.generation + 1
                started = events.RunStarted(
                    at=now,
                    run_id=row.run_id,
                    workflow=row.workflow,
                    input=raw,
                    generation=generation,
                    flags=ENGINE_FLAGS,
                    parent=row.parent,
                    parent_path=row.parent_path,
                    carried=carried,
                )
                change = Change("running", release=False, generation=generation, first_seq=runner.journal.head + 2)
                return [events.RunContinued(at=now, input=raw, carried=carried), started], change, None
            case commands.Blocked(detail=detail):
                return [], Change("blocked", detail=detail), None
        posting = Posting(row.parent, told, key=f"ended:{row.run_id}") if row.parent else None
        return [last], change, posting

    def next_due(self) -> int:
        """When the nearest timer or retry is due; 0 if there is none."""
        due = [fire_at for fire_at, _ in self._timers.values()]
        due += [execution.retry_at for execution in self._runner.executions.values() if execution.retry_at]
        return min(due, default=0)

    def runnable(self) -> bool:
        """Whether a step could start if the run were not being drained."""
        ledger = self._runner.ledger
        return any(
            not execution.retry_at and not ((entry := ledger.at(path)) and entry.doubt)
            for path, execution in self._runner.executions.items()
        )

    def drop(self) -> None:
        for _, handle in self._timers.values():
            handle.cancel()


def _handling(started: events.RunStarted, priority: int) -> NewRun:
    """An error workflow's run; a mistake in its concurrency key must not keep the failed run from ending."""
    try:
        return new_run(started, priority)
    except Exception:
        log.exception("the concurrency key of %s; run %s starts without one", started.workflow, started.run_id)
        return NewRun(started, priority=priority)


def new_run(started: events.RunStarted, priority: int = 0, **options: Any) -> NewRun:
    """A run to be created, with the admission that its workflow declares."""
    from cadenza.durable.define import workflows

    workflow = workflows.get(started.workflow)
    limit = workflow.options.concurrency if workflow is not None else None
    if workflow is None or not limit:
        return NewRun(started, priority=priority, **options)
    key = ""
    if workflow.options.concurrency_key is not None:
        value = codec.decode(started.input, workflow.input_type, f"the input of {workflow.label}")
        key = str(workflow.options.concurrency_key(value))
    admission = f"{workflow.name}/{key}"
    return NewRun(started, priority=priority, concurrency_key=admission, concurrency=limit, **options)
