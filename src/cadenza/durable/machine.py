"""A run as a replayed coroutine inside a pure machine: events in, commands out. No clock, no I/O, no threads.

    machine = Machine(workflow)
    machine.apply(event)          one event of the journal, then workflow code runs until it waits again
    machine.take_commands()       what it asked for meanwhile
    machine.evict()               leave memory: every task is unwound, none can act

Invariants:
    - Outcomes are delivered one at a time in journal order, with the loop drained between two. Live and replay do the same.
    - ``open`` holds exactly the commands whose outcome is not delivered yet; after a replay it is what is left to do.
    - An outcome that does not fit the open command of its path raises Nondeterminism, and nothing is written.
    - After ``Finish`` nothing is delivered any more.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable
from contextvars import Context as Variables
from typing import TYPE_CHECKING, Any

from cadenza.durable import codec, commands, events
from cadenza.durable.commands import Command, Ending, Finish, Opened
from cadenza.durable.define import WorkflowFunction
from cadenza.durable.delivery import Delivery, describe, fits
from cadenza.durable.failure import Failure
from cadenza.durable.guard import install
from cadenza.durable.loop import DurableFuture, DurableLoop, unwind
from cadenza.durable.path import Branch, current_branch
from cadenza.durable.undo import UndoStack
from cadenza.durable.versioning import Patches
from cadenza.errors import (
    CadenzaError,
    CompensationError,
    ContinuedAsNew,
    DefinitionError,
    Evicted,
    InputInvalid,
    Nondeterminism,
    NotSerialisable,
    PayloadTooLarge,
    UnknownName,
    UsageError,
    WorkflowBug,
)

if TYPE_CHECKING:
    from cadenza.durable.context import Context


MISTAKES = (WorkflowBug, DefinitionError, UnknownName, NotSerialisable, PayloadTooLarge)
"""Errors that a deploy mends: they block the run, where other exceptions fail it (ADR 0006)."""


class OutcomeFuture(DurableFuture):
    """Stands for the outcome of one command; knows how to leave when workflow code stops waiting for it."""

    def __init__(self, machine: Machine, command: Opened, deliver: Delivery) -> None:
        super().__init__(loop=machine.loop)
        self.machine, self.command, self.deliver = machine, command, deliver

    def cancel(self, msg: Any = None) -> bool:
        """Stop waiting. What must not be left alone (irreversible work, a child's clean-up) is waited for instead."""
        if self.done() or self.machine.evicting:
            return super().cancel(msg)
        if not self.machine.may_leave(self.command):
            return False  # asyncio then cancels the task as soon as the outcome is there
        super().cancel(msg)
        self.machine.leave(self.command.path)
        return True


class Machine:
    """One generation of one run. ``trace``, if given, collects what every command was, for comparing two replays."""

    def __init__(self, workflow: WorkflowFunction[..., Any], trace: list[str] | None = None) -> None:
        self.workflow = workflow
        self.trace = trace
        self.run_id = ""
        self.generation = 0
        self.open: dict[str, OutcomeFuture] = {}
        self.left: set[str] = set()
        self.waiters: dict[str, deque[OutcomeFuture]] = {}
        self.letters: dict[str, deque[events.Letter]] = {}
        self.child_paths: dict[str, str] = {}
        self.ended_children: dict[str, events.ChildEnded] = {}
        self.undo = UndoStack(self)
        self.patches = Patches()
        self.replaying = False
        self.finished = False
        self.cancel_reason: str | None = None
        self._ending: Ending | None = None
        self._commands: list[Command] = []
        self._root: Any = None
        self.loop: DurableLoop = DurableLoop(self, 0)

    @property
    def evicting(self) -> bool:
        return self.loop.evicting

    # --- in -------------------------------------------------------------------------------------------------------

    def replay(self, journal: Iterable[events.AnyEvent]) -> None:
        """Apply a whole journal; the commands made on the way are dropped, ``open`` says what is left to do."""
        journal = list(journal)
        self.patches.expect(event.id for event in journal if isinstance(event, events.Patched))
        last = len(journal) - 1
        for index, event in enumerate(journal):
            self.replaying = index < last
            self.apply(event)
        self.replaying = False

    def apply(self, event: events.AnyEvent) -> None:
        """Apply one event. Raises Nondeterminism if the code does not fit it, Stalled if the code does not yield."""
        kind = type(event)
        if kind in events.RECORD_TYPES:
            return
        loop = self.loop
        if event.at > loop.now_us:
            loop.now_us = event.at
        if self._ending is not None and kind not in events.TERMINALS:
            self._settle_late(event)
        elif kind is events.StepCompleted or kind is events.StepFailed:
            self._deliver(event)  # type: ignore[arg-type]  # kind says what it is, and is quicker than isinstance
        elif isinstance(event, events.TERMINALS):
            self._check_ending(event)
            return
        elif isinstance(event, events.RunStarted):
            self._start(event)
        elif isinstance(event, events.MessageReceived):
            self._receive(event)
        elif isinstance(event, events.CancelRequested):
            self._cancel_root(event.reason)
        else:
            self._deliver(event)  # type: ignore[arg-type]  # records are handled before
        self.loop.run_ready()
        if self._ending is not None and not self.finished:
            self._try_finish()

    def _start(self, event: events.RunStarted) -> None:
        from cadenza.durable.context import Context  # the API of this machine; it imports what it drives

        install()
        assert self._root is None, "a machine is started once"
        self.run_id, self.generation = event.run_id, event.generation
        seed = int.from_bytes(hashlib.blake2b(event.run_id.encode(), digest_size=6).digest())
        self.loop = DurableLoop(self, seed << 12)
        self.loop.now_us = event.at
        carried = event.carried or events.Carried()
        for letter in carried.letters:
            self.letters.setdefault(letter.name, deque()).append(letter)
        self.undo.restore(carried.undo)
        self.ended_children = {child.run_id: child for child in carried.children}
        variables = Variables()
        variables.run(current_branch.set, Branch("", f"{event.run_id}:{event.generation}"))
        self._root = self.loop.spawn(self._main(Context(self), event.input), variables, "root")
        if carried.cancel is not None:
            self.loop.run_ready()
            self._cancel_root(carried.cancel)

    async def _main(self, ctx: Context, raw_input: bytes) -> None:
        try:
            self._ending = await self._run_workflow(ctx, raw_input)
        except Evicted:
            raise
        except BaseException as error:  # SystemExit and the like must not leave the machine
            self._ending = commands.Failed(Failure.of(error))

    async def _run_workflow(self, ctx: Context, raw_input: bytes) -> Ending:
        import asyncio

        workflow = self.workflow
        try:
            arguments: list[Any] = [ctx]
            if workflow.takes_input:
                arguments.append(_decode_input(workflow, raw_input))
            result = await workflow.fn(*arguments)
            return commands.Completed(codec.encode(result, workflow.output_type, f"the result of {workflow.label}"))
        except Evicted:
            raise
        except ContinuedAsNew as again:
            try:
                return commands.Continued(workflow.encode_input(again.state))
            except UsageError as bug:
                return commands.Blocked(str(bug), bug)
        except MISTAKES as bug:
            return commands.Blocked(str(bug), bug)
        except asyncio.CancelledError as error:
            failure, reason = None, self.cancel_reason
            if reason is None:
                return await self._undo_all(commands.Failed(Failure.of(error)))
            return await self._undo_all(commands.Cancelled(reason, failure))
        except BaseException as error:
            if _holds_evicted(error):
                raise Evicted from None
            if bug := _holds_bug(error):
                return commands.Blocked(str(bug), bug)
            return await self._undo_all(commands.Failed(Failure.of(error)))

    async def _undo_all(self, ending: commands.Failed | commands.Cancelled) -> Ending:
        undone, left = await self.undo.unwind()
        if not left:
            return ending
        was_cancelled = isinstance(ending, commands.Cancelled)
        reason = "the run was cancelled" if was_cancelled else str(ending.failure)
        error = CompensationError(reason, undone, left)
        error.__suppress_context__ = True
        failure = Failure.of(error)
        if was_cancelled:
            return commands.Cancelled(ending.reason, failure)
        return commands.Failed(Failure(failure.type, failure.message, failure.details, cause=ending.failure))

    def carry(self) -> events.Carried:
        """What the next generation takes along, once this one has finished."""
        letters = tuple(letter for box in self.letters.values() for letter in box)
        return events.Carried(letters, self.undo.entries(), tuple(self.ended_children.values()), self.cancel_reason)

    def _cancel_root(self, reason: str) -> None:
        if self.cancel_reason is None and self._root is not None and not self._root.done():
            self.cancel_reason = reason
            self._root.cancel()

    def _receive(self, event: events.MessageReceived) -> None:
        waiters = self.waiters.get(event.name)
        while waiters:
            future = waiters.popleft()
            if not future.done():
                self.open.pop(future.command.path)
                future.deliver(future, event)
                return
        letter = events.Letter(event.name, event.value, event.sender)
        self.letters.setdefault(event.name, deque()).append(letter)

    def _deliver(self, event: events.Outcome) -> None:
        path: str = event.path  # type: ignore[union-attr]  # messages and cancellation are handled before
        if isinstance(event, events.ChildEnded):
            path = self.child_paths.pop(event.run_id, "")
            if not path:  # started by an earlier generation, and not asked for yet
                self.ended_children[event.run_id] = event
                return
        future = self.open.get(path)
        if future is None:
            if path in self.left:
                self.left.discard(path)
                return
            raise self._mismatch(event)
        if not fits(future.command, event):
            raise Nondeterminism(f"{describe(event)} at {path}", f"{describe(future.command)} at {path}")
        del self.open[path]
        if not future.done():
            future.deliver(future, event)

    def _settle_late(self, event: events.AnyEvent) -> None:
        """An outcome that was on its way when workflow code ended; the next generation, if there is one, takes it along."""
        if isinstance(event, events.MessageReceived):
            self.letters.setdefault(event.name, deque()).append(events.Letter(event.name, event.value, event.sender))
        elif isinstance(event, events.CancelRequested):
            self.cancel_reason = self.cancel_reason if self.cancel_reason is not None else event.reason
        elif isinstance(event, events.ChildEnded):
            self.ended_children[event.run_id] = event
        path = getattr(event, "path", "")
        future = self.open.pop(path, None)
        if future is not None:
            if isinstance(event, events.StepCompleted):
                self.undo.note(future.command, event.value)
            unwind(future)
        self.left.discard(path)

    def _mismatch(self, event: events.Outcome) -> Nondeterminism:
        waiting = ", ".join(f"{describe(each.command)} at {path}" for path, each in list(self.open.items())[:5])
        return Nondeterminism(f"{describe(event)} at {getattr(event, 'path', '')}", f"waiting for {waiting or 'nothing'}")

    def _check_ending(self, event: events.Terminal) -> None:
        ending = self._ending
        found = type(ending).__name__.lower() if self.finished else "a run that is still waiting"
        expected = type(event).__name__.removeprefix("Run").lower()
        if isinstance(event, events.RunCompleted) and isinstance(ending, commands.Completed) and self.finished:
            if event.value == ending.value:
                return
            expected, found = f"the result {event.value[:200]!r}", f"the result {ending.value[:200]!r}"
        elif found == expected:
            return
        if not isinstance(event, events.RunCancelled):  # a run may be cancelled from outside, without its code's help
            raise Nondeterminism(expected, found)

    # --- out ------------------------------------------------------------------------------------------------------

    def take_commands(self) -> list[Command]:
        """What workflow code asked for since the last call."""
        taken, self._commands = self._commands, []
        return taken

    def issue(self, command: Opened, deliver: Delivery) -> OutcomeFuture:
        """Called by Context: open a command; its future ends when the outcome is delivered."""
        self.refuse_if_evicting()
        assert command.path not in self.open, f"{command.path} is open already"
        future = OutcomeFuture(self, command, deliver)
        self.open[command.path] = future
        self._emit(command)
        return future

    def wait_message(self, command: commands.AwaitMessage, deliver: Delivery) -> OutcomeFuture:
        """Open a wait for a message; the first to wait is the first to get one."""
        future = self.issue(command, deliver)
        self.waiters.setdefault(command.name, deque()).append(future)
        return future

    def wait_child(self, command: commands.StartChild | commands.AwaitChild, deliver: Delivery) -> OutcomeFuture:
        """Open a wait for a child run, which may have ended already."""
        future = self.issue(command, deliver)
        ended = self.ended_children.pop(command.run_id, None)
        if ended is None:
            self.child_paths[command.run_id] = command.path
        else:
            del self.open[command.path]
            deliver(future, ended)
        return future

    def record_patch(self, id: str) -> None:
        self._emit(commands.RecordPatch(id))

    def may_leave(self, command: Opened) -> bool:
        """Whether workflow code may stop waiting for it: not for irreversible work, nor for a child's clean-up."""
        match command:
            case commands.RunStep(step=step):
                return step.settings.effect != "irreversible" and not command.undo_of
            case commands.StartChild(awaited=True, path=path):
                self._emit(commands.Cancel(path))
                return False
            case commands.SendMessage():
                return False
            case _:
                return True

    def leave(self, path: str) -> None:
        future = self.open.pop(path)
        self.left.add(path)
        if isinstance(future.command, commands.RunStep):
            self.undo.left_in_doubt(future.command)
        self._emit_cancel(future.command)

    def _emit_cancel(self, command: Opened) -> None:
        """A child that was started to go on by itself does so."""
        if not (isinstance(command, commands.StartChild) and not command.awaited):
            self._emit(commands.Cancel(command.path))

    def _emit(self, command: Command) -> None:
        self._commands.append(command)
        if self.trace is not None and not isinstance(command, commands.RecordPatch):  # made once, not in replay
            self.trace.append(signature_of(command))

    def refuse_if_evicting(self) -> None:
        """Clean-up code of a machine that leaves memory must not act."""
        if self.loop.evicting:
            raise Evicted

    def start_timer(self, fire_at: int, fire: Callable[[], None]) -> str:
        path = current_branch.get().leaf("@timer")
        self.issue(commands.StartTimer(path, fire_at), lambda future, event: fire())
        return path

    def cancel_timer(self, path: str) -> None:
        if path in self.open and not self.loop.evicting:
            self.leave(path)

    # --- the end --------------------------------------------------------------------------------------------------

    def _try_finish(self) -> None:
        """Finish once nothing that must be waited for is in flight; drop what need not be."""
        assert self._ending is not None
        blocked = isinstance(self._ending, commands.Blocked)
        for path, future in [] if blocked else list(self.open.items()):
            if self._may_drop(future.command):
                del self.open[path]
                self.left.add(path)
                self._emit_cancel(future.command)
                unwind(future)
        if self.open and not blocked:
            return
        self.finished = True
        self._emit(Finish(self._ending))
        self.loop.evict()

    def _may_drop(self, command: Opened) -> bool:
        return isinstance(command, commands.StartChild) or self.may_leave(command)

    def evict(self) -> list[str]:
        """Leave memory. Returns the names of tasks that would not end (see loop.evict)."""
        self.loop.evicting = True
        for future in self.open.values():
            unwind(future)
        return self.loop.evict()

    def waiting_for(self) -> list[str]:
        """The open paths, for people."""
        return list(self.open)


def signature_of(command: Command) -> str:
    """What a command was, in a form that two replays can compare."""
    match command:
        case commands.RunStep(path=path, name=name, input_hash=input_hash):
            return f"step {path} {name} {input_hash}"
        case commands.StartTimer(path=path, fire_at=fire_at):
            return f"timer {path} {fire_at}"
        case commands.SendMessage(path=path, to=to, name=name, value=value):
            return f"send {path} {to} {name} {value!r}"
        case commands.StartChild(path=path, name=name, input=raw):
            return f"child {path} {name} {raw!r}"
        case Finish(ending=ending):
            return f"finish {type(ending).__name__}"
        case _:
            return f"{type(command).__name__.lower()} {command.path}"


def _holds_evicted(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(_holds_evicted(each) for each in error.exceptions)  # pyright: ignore[reportUnknownVariableType]
    return isinstance(error, Evicted)


def _holds_bug(error: BaseException) -> CadenzaError | None:
    if isinstance(error, BaseExceptionGroup):
        found = (_holds_bug(each) for each in error.exceptions)  # pyright: ignore[reportUnknownVariableType]
        return next((each for each in found if each), None)
    return error if isinstance(error, MISTAKES) else None


def _decode_input(workflow: WorkflowFunction[..., Any], raw: bytes) -> Any:
    what = f"the input of {workflow.label}"
    try:
        return codec.decode(raw, workflow.input_type, what)
    except InputInvalid as error:
        raise Nondeterminism("an input that fits its type", str(error), "The type of the input changed.") from error
