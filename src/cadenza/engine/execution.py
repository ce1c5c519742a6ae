"""One call of a step, from the command to its outcome: the effect ledger in action (design.md sections 3 and 4).

read            runs at once; its outcome is written behind
idempotent      waits for the read barrier; its outcome is committed before it is delivered
irreversible    its intent is committed, ownership is read anew, then it runs, once; if it is then unknown
                whether it happened, the reconcile hook is asked, else a person
an undo         as its own effect says, and its intent is committed first in any case
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from cadenza.durable import codec, commands, events
from cadenza.durable.failure import Failure
from cadenza.durable.human import Answer, HumanTask
from cadenza.durable.path import idempotency_key
from cadenza.durable.scope import Done, NotDone, current_scope
from cadenza.engine.failpoint import failpoint
from cadenza.engine.steps import Attempt, StepScope
from cadenza.engine.store import OpenTaskRow
from cadenza.errors import CadenzaError, Nondeterminism, NotSerialisable, OutcomeUnknown

if TYPE_CHECKING:
    from cadenza.engine.runner import Runner

RECONCILE_MAX = 5
CRASHED = "the process ended, or lost its lease, between the intent and the outcome"


class Execution:
    """``idle`` while nothing is in flight: it waits for a retry, for a person, or for the run to be drained."""

    def __init__(self, runner: Runner, command: commands.RunStep) -> None:
        self.runner, self.command = runner, command
        self.path, self.step = command.path, command.step
        self.effect = command.step.settings.effect
        self.needs_intent = self.effect == "irreversible" or bool(command.undo_of)
        self.idle = False
        self.retry_at = 0
        self.attempt = 1
        self.cancelled = False
        self.task: asyncio.Task[None] | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._args: Any = None
        self._started_at = 0

    @property
    def in_doubt(self) -> bool:
        """Whether a person is asked what became of it."""
        entry = self.runner.ledger.at(self.path)
        return entry is not None and bool(entry.doubt)

    @property
    def key(self) -> str:
        machine = self.runner.machine
        return idempotency_key(machine.run_id, machine.generation, self.path)

    def start(self) -> None:
        """Do what the ledger allows for a call that has no outcome, once no thread of this process is at work on it."""
        entry = self.runner.ledger.at(self.path)
        if entry is not None and entry.doubt:
            self.attempt = entry.attempts + 1
            self._rest()
            return
        threads = self.runner.env.threads
        if threads.busy:
            if (thread := threads.at_work(self.key)) is not None:
                self._launch(self._take_over(thread))
                return
            if (thread := threads.at_work(self.command.undo_of)) is not None:
                self._launch(self._start_after(thread))
                return
        if entry is not None:
            self.attempt = entry.attempts + 1
            if entry.intent and self.effect == "irreversible":
                self._launch(self._find_out(CRASHED))
                return
            if entry.retry_at > self.runner.now():
                self._wait_until(entry.retry_at)
                return
        self._prepare()

    async def _start_after(self, thread: asyncio.Future[Any]) -> None:
        """What is to be undone is still being done, and cannot be stopped (rule 13)."""
        await asyncio.wait([thread])
        self.start()

    async def _take_over(self, thread: asyncio.Future[Any]) -> None:
        """It belongs to an attempt that nobody waits for, and cannot be stopped (rule 13): what it does counts."""
        await asyncio.wait([thread])
        self._started_at = self.runner.now()
        try:
            self._complete(self._encode(thread.result()))
        except Exception as error:
            if self.effect == "irreversible":
                await self._find_out(f"{type(error).__name__}: {error}")
            else:
                self.start()

    def _prepare(self) -> None:
        if self.runner.draining:
            self._rest()
            return
        self.idle = False
        try:
            self._args = self.step.coerce(self.command.args, self.command.kwargs)
        except CadenzaError as error:  # nothing has happened yet
            self._fail(error, in_doubt=False)
            return
        if self.needs_intent:
            self._launch(self._run_with_intent())
        elif self.effect == "read":
            self._launch(self._run())
        else:
            self.runner.gate(self.path, lambda: self._launch(self._run_if_owner()))

    async def _run_if_owner(self) -> None:
        """The check and the step's first line are one callback of the loop: nothing else comes between."""
        failpoint("before_check")
        if self.runner.still_owner(strict=False):
            failpoint("before_effect")
            await self._run()

    async def _run_with_intent(self) -> None:
        entry = self.runner.ledger.at(self.path)
        if entry is None or not entry.intent:
            await self.runner.journal.commit(
                events.StepIntent(
                    at=self.runner.now(),
                    path=self.path,
                    name=self.step.name,
                    input_hash=self.command.input_hash,
                    attempt=self.attempt,
                    by=self.runner.env.owner,
                )
            )
        failpoint("after_intent")
        if self.command.undo_of:
            failpoint("in_compensation")
        if self.runner.still_owner(strict=True):
            failpoint("before_effect")
            await self._run()

    def _launch(self, work: Any) -> None:
        self.idle = False
        self.task = asyncio.get_running_loop().create_task(work)

    def _rest(self) -> None:
        self.idle = True
        self.runner.settle_soon()

    async def _run(self) -> None:
        runner = self.runner
        self._started_at = runner.now()
        if runner.watched:
            runner.tell(self.path, "step", self.step.label, "started", self.attempt)
        scope = StepScope(runner, self.command, self.key, self.attempt)
        attempt = Attempt(self.command, scope, runner.env.threads, self._args, runner.env.stand_in)
        try:
            raw = await attempt.run()
        except asyncio.CancelledError as error:
            if self.cancelled or runner.closed:
                raise
            self._failed(error)  # raised by the function itself
        except Nondeterminism as bug:
            self._stop(bug)
        except NotSerialisable as bug:
            if self.effect == "irreversible":
                self._failed(bug)  # it happened: somebody must say with what result
            else:
                self._stop(bug)
        except (Exception, SystemExit) as error:
            if attempt.leftover is not None:
                await self._outlive(attempt, error)
            else:
                self._failed(error)
        else:
            self._complete(raw)

    async def _outlive(self, attempt: Attempt, error: BaseException) -> None:
        """A thread is still at work after its limit: nothing is retried or found out until it has ended (rule 13)."""
        assert attempt.leftover is not None
        if not (self._may_retry(error) or self.effect == "irreversible"):
            self._failed(error)
            return
        try:
            value = await asyncio.shield(attempt.leftover)
            self._complete(attempt.encode(value))  # late, and yet done: better than to do it again
        except Exception:
            self._failed(error)

    def _stop(self, bug: Nondeterminism | NotSerialisable) -> None:
        """The code is at fault: no outcome; the call is made again, with the same key, when the run goes on."""
        self._rest()
        self.runner.block(bug)

    def _complete(self, raw: bytes) -> None:
        runner = self.runner
        if runner.watched:
            runner.tell(self.path, "step", self.step.label, "completed", raw[:200])
        event = events.StepCompleted(
            at=runner.now(),
            path=self.path,
            name=self.step.name,
            input_hash=self.command.input_hash,
            value=raw,
            attempt=self.attempt,
            started_at=self._started_at,
            done_by=runner.env.owner,
        )
        self._end(event)

    def _end(self, event: events.StepCompleted | events.StepFailed) -> None:
        runner = self.runner
        runner.executions.pop(self.path, None)
        if not self.cancelled:
            runner.outcome(event, behind=self.effect == "read" and not self.needs_intent)

    # --- failures -------------------------------------------------------------------------------------------------

    def _failed(self, error: BaseException) -> None:
        settings = self.step.settings
        if isinstance(error, settings.raises):
            self._fail(error, in_doubt=False)
        elif isinstance(error, OutcomeUnknown):
            self._ask(str(error), memo=error.name)
        elif self.effect == "irreversible":
            self._launch(self._find_out(f"{type(error).__name__}: {error}"))
        elif self._may_retry(error):
            assert settings.retry is not None
            drawn_s = settings.retry.delay_after(self.attempt, self.runner.env.chance.random())
            retry_at = self.runner.now() + round(max(drawn_s, getattr(error, "retry_after_s", 0.0)) * 1_000_000)
            self._record_attempt(error, retry_at)
            self.attempt += 1
            self._wait_until(retry_at)
        else:
            self._fail(error, in_doubt=True)

    def _may_retry(self, error: BaseException) -> bool:
        retry = self.step.settings.retry
        return (
            retry is not None
            and self.effect != "irreversible"
            and self.attempt < retry.attempts
            and not isinstance(error, retry.never_on)
        )

    def _record_attempt(self, error: BaseException, retry_at: int) -> None:
        failure = Failure.of(error)
        self.runner.journal.record_behind(
            events.AttemptFailed(
                at=self.runner.now(),
                path=self.path,
                name=self.step.name,
                attempt=self.attempt,
                failure=failure,
                retry_at=retry_at,
                input_hash=self.command.input_hash,
            )
        )
        self.runner.tell(self.path, "step", self.step.label, "retrying", str(failure))

    def _wait_until(self, retry_at: int) -> None:
        self.retry_at = retry_at
        delay_s = max(0.0, (retry_at - self.runner.now()) / 1_000_000)
        self._retry = asyncio.get_running_loop().call_later(delay_s, self._try_again)
        self._rest()

    def _try_again(self) -> None:
        self.retry_at = 0
        if not (self.runner.closed or self.runner.closing):
            self._prepare()

    def _fail(self, error: BaseException, *, in_doubt: bool) -> None:
        runner = self.runner
        failure = Failure.of(error)
        runner.tell(self.path, "step", self.step.label, "failed", str(failure))
        self._end(
            events.StepFailed(
                at=runner.now(),
                path=self.path,
                name=self.step.name,
                input_hash=self.command.input_hash,
                failure=failure,
                attempt=self.attempt,
                started_at=self._started_at,
                done_by=runner.env.owner,
                in_doubt=in_doubt,
            )
        )

    # --- in doubt -------------------------------------------------------------------------------------------------

    async def _find_out(self, reason: str) -> None:
        """An irreversible effect may have happened: ask the reconcile hook, else a person (rule 3)."""
        hook = self.step.reconcile
        if hook is None or self.attempt > RECONCILE_MAX:
            self._ask(reason)
            return
        by = self.runner.ledger.open(self.path).by
        gone = self.runner.env.gone(by)  # before the hook looks: what dies later may have done it meanwhile
        token = current_scope.set(StepScope(self.runner, self.command, self.key, self.attempt))
        try:
            args, kwargs = self.step.coerce(self.command.args, self.command.kwargs)
            found = await self.runner.env.threads.call(hook, *args, **kwargs)
            raw = self._encode(found.value) if isinstance(found, Done) else b""
        except Exception as error:
            self._ask(f"{reason}; and the reconcile hook failed ({type(error).__name__}: {error})")
            return
        finally:
            current_scope.reset(token)
        if isinstance(found, Done):
            self._resolve("done", "reconcile", raw, reason)
        elif isinstance(found, NotDone):
            if gone:
                self._resolve("not_done", "reconcile", b"", reason)
            else:
                self._ask(f"{reason}; it has not happened yet, but {by}, which began it, may be alive and still do it")
        else:
            self._ask(f"{reason}; {getattr(found, 'reason', '') or 'the reconcile hook could not tell'}")

    def _encode(self, value: Any) -> bytes:
        """A result that was found out. Raises InputInvalid if the step could not have had it."""
        annotation, what = self.step.types["return"], f"the result of {self.step.label}"
        return codec.encode(codec.coerce(value, annotation, what), annotation, what)

    def _ask(self, reason: str, memo: str = "", letter: int = 0) -> None:
        runner = self.runner
        what = f"{self.step.label} ({memo})" if memo else self.step.label
        task = HumanTask(
            title=f"Did {what} happen?",
            kind="resolve",
            details={"step": self.step.name, "path": self.path, "key": self.key, "memo": memo, "reason": reason},
            options=("done", "not_done", "failed"),
        )
        now = runner.now()
        runner.journal.record(
            events.OutcomeInDoubt(at=now, path=self.path, name=self.step.name, reason=reason, memo=memo),
            consumed=letter,
            task_opened=OpenTaskRow(
                runner.row.run_id,
                self.path,
                codec.encode(task, HumanTask, "the task"),
                now,
                runner.machine.generation,
            ),
        )
        runner.tell(self.path, "step", self.step.label, "unknown", reason)
        self._rest()

    def answered(self, answer: Answer, letter: int) -> None:
        """A person has found out."""
        memo, raw = self.runner.ledger.open(self.path).doubt_memo, b""
        if answer.choice == "done":
            try:
                raw = codec.encode(answer.value, Any, f"the memo {memo!r}") if memo else self._encode(answer.value)
            except CadenzaError as error:
                self._ask(f"the answer does not fit: {error}", memo, letter)
                return
        self._resolve(answer.choice, answer.by, raw, answer.comment or "a person said so", letter, memo)

    def _resolve(self, decision: Any, by: str, raw: bytes, reason: str, letter: int = 0, memo: str = "") -> None:
        """Go on with what was found; a finding and the outcome that it decides are one append."""
        runner = self.runner
        event = events.DoubtResolved(at=runner.now(), path=self.path, decision=decision, by=by, memo=memo)
        hashed = runner.ledger.open(self.path).memo_intents.get(memo, "")
        runner.journal.record(
            event, consumed=letter, task_closed=self.path if letter else "", with_next=decision != "not_done"
        )
        if decision == "failed":
            self._fail(CadenzaError(reason), in_doubt=False)
        elif decision == "not_done":
            self.start()
        elif memo:
            saved = events.MemoSaved(
                at=runner.now(), path=self.path, key=memo, value=raw, effect="irreversible", input_hash=hashed
            )
            runner.journal.record(saved)
            self.start()
        else:
            self._complete(raw)

    # --- leaving --------------------------------------------------------------------------------------------------

    def cancel(self) -> None:
        """Workflow code no longer waits: stop, and say so in the journal."""
        self.cancelled = True
        self.drop()
        runner = self.runner
        runner.journal.record_behind(events.StepCancelled(at=runner.now(), path=self.path, name=self.step.name))
        runner.tell(self.path, "step", self.step.label, "cancelled")

    def drop(self) -> None:
        """Stop without a word: the run goes on elsewhere."""
        if self._retry is not None:
            self._retry.cancel()
        if self.task is not None:
            self.task.cancel()
