"""A run as a replayed coroutine inside a pure machine: events in, commands out. No clock, no I/O, no threads.

    machine = Machine(workflow)
    machine.apply(event)          one event of the journal, then workflow code runs until it waits again
    machine.take_commands()       what it asked for meanwhile
    machine.evict()               leave memory: every task is unwound, none can act

Invariants:
    - Outcomes are delivered one at a time in journal order, with the loop drained between two. Live and replay do the
    same.
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

from cadenza.durable import commands, events
from cadenza.durable.attributes import Attributes
from cadenza.durable.children import Children
from cadenza.durable.commands import Command, Ending, Finish, Opened, signature_of
from cadenza.durable.define import WorkflowFunction
from cadenza.durable.delivery import Delivery, describe, fits
from cadenza.durable.ending import check_ending, run_workflow
from cadenza.durable.forking import leave_origin
from cadenza.durable.guard import install
from cadenza.durable.loop import DurableFuture, DurableLoop, unwind
from cadenza.durable.memos import Memos
from cadenza.durable.path import Branch, Seed, current_branch
from cadenza.durable.undo import UndoStack
from cadenza.durable.updates import Updates
from cadenza.durable.versioning import Patches
from cadenza.errors import Evicted, Nondeterminism

if TYPE_CHECKING:
    from cadenza.durable.context import Context


class OutcomeFuture(DurableFuture):
    """Stands for the outcome of one command; knows how to leave when workflow code stops waiting for it."""

    def __init__(self, machine: Machine, command: Opened, deliver: Delivery) -> None:
        self._order = machine.loop.next_order()
        super(DurableFuture, self).__init__(loop=machine.loop)  # past DurableFuture: this is the hot path
        self.machine, self.command, self.deliver = machine, command, deliver

    def cancel(self, msg: Any = None) -> bool:
        """Stop waiting. What must not be left alone (irreversible work, a child's clean-up) is waited for instead."""
        if self.done() or self.machine.over:
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
        self.seed = Seed("", 0)
        self.open: dict[str, OutcomeFuture] = {}
        self.left: set[str] = set()
        self.waiters: dict[str, deque[OutcomeFuture]] = {}
        self.letters: dict[str, deque[events.Letter]] = {}
        self.children = Children()
        self.undo = UndoStack(self)
        self.patches = Patches()
        self.attributes = Attributes(self)
        self.memos = Memos(self)
        self.updates = Updates(self)
        self.views: dict[str, Callable[[], Any]] = {}
        self.replaying = False
        self.settled: frozenset[str] = frozenset()
        self.finished = False
        self.undoing = False
        self.cancel_reason: str | None = None
        self._ending: Ending | None = None
        self._commands: list[Command] = []
        self._root: Any = None
        self.loop: DurableLoop = DurableLoop(self, 0)

    @property
    def over(self) -> bool:
        """Whether workflow code may ask for nothing more: it has ended, or the machine leaves memory."""
        return self._ending is not None or self.loop.evicting

    # --- in -------------------------------------------------------------------------------------------------------

    def replay(self, journal: Iterable[events.AnyEvent]) -> None:
        """Apply a whole journal; the commands made on the way are dropped, ``open`` says what is left to do."""
        journal = list(journal)
        self.patches.expect(event.id for event in journal if isinstance(event, events.Patched))
        self.settled = frozenset(
            each.path for each in journal if isinstance(each, events.StepCompleted | events.StepFailed)
        )
        self.updates.expect(journal)
        last = len(journal) - 1
        for index, event in enumerate(journal):
            self.replaying = index < last
            self.apply(event)
        self.replaying = False

    def apply(self, event: events.AnyEvent) -> None:
        """Apply one event. Raises WorkflowBug: the code does not fit it, does not yield, or did what it must not."""
        kind = type(event)
        if kind in events.RECORD_TYPES:
            if kind in events.BEGINNINGS:
                self._check_begun(event)
            elif kind is events.Forked:
                self._commands = leave_origin(self, event, self._commands)  # type: ignore[arg-type]  # kind says so
            self.memos.note(event)
            return
        self.loop.now_us = max(self.loop.now_us, event.at)
        if self._ending is not None and kind not in events.TERMINALS:
            self._settle_late(event)
        elif kind is events.StepCompleted or kind is events.StepFailed:
            self._deliver(event)  # type: ignore[arg-type]  # kind says what it is, and is quicker than isinstance
        elif isinstance(event, events.TERMINALS):
            check_ending(event, self._ending if self.finished else None, self.workflow)
            return
        elif isinstance(event, events.RunStarted):
            self._start(event)
        elif isinstance(event, events.MessageReceived):
            self._receive(event)
        elif isinstance(event, events.UpdateReceived):
            self.updates.receive(event)
        elif isinstance(event, events.CancelRequested):
            self._cancel_root(event.reason)
        else:
            self._deliver(event)  # type: ignore[arg-type]  # records are handled before
        loop = self.loop
        loop.run_ready()
        if loop.bugs:
            loop.raise_unseen_bug()
        if self._ending is not None and not self.finished:
            self._try_finish()

    def _start(self, event: events.RunStarted) -> None:
        from cadenza.durable.context import Context  # the API of this machine; it imports what it drives

        install()
        assert self._root is None, "a machine is started once"
        self.run_id, self.generation = event.begun_as or event.run_id, event.generation
        self.seed = Seed(self.run_id, self.generation)
        seed = int.from_bytes(hashlib.blake2b(self.run_id.encode(), digest_size=6).digest())
        self.loop = DurableLoop(self, seed << 12)
        self.loop.now_us = event.at
        carried = event.carried or events.Carried()
        for letter in carried.letters:
            self.letters.setdefault(letter.name, deque()).append(letter)
        self.undo.restore(carried.undo)
        self.children.restore(carried.children)
        variables = Variables()
        self.updates.branch = Branch("", self.seed)
        variables.run(current_branch.set, self.updates.branch)
        self._root = self.loop.spawn(self._main(Context(self), event.input), variables, "root")
        if carried.cancel is not None:
            self.loop.run_ready()
            self._cancel_root(carried.cancel)

    async def _main(self, ctx: Context, raw_input: bytes) -> None:
        self._ending = await run_workflow(self, ctx, raw_input)

    def carry(self) -> events.Carried:
        """What the next generation takes along, once this one has finished."""
        letters = tuple(letter for box in self.letters.values() for letter in box)
        return events.Carried(letters, self.undo.entries(), self.children.unread(), self.cancel_reason)

    def _cancel_root(self, reason: str) -> None:
        if self.cancel_reason is None and not self.undoing and self._root is not None and not self._root.done():
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
        if isinstance(event, events.ChildEnded):
            for path in self.children.end(event):
                self._settle(path, event)
            return
        self._settle(event.path, event)  # type: ignore[union-attr]  # messages and cancellation are handled before

    def _settle(self, path: str, event: events.Outcome) -> None:
        future = self.open.get(path)
        if future is None:
            if path in self.left:
                self.left.discard(path)
                return
            raise self._mismatch(event)
        if not fits(future.command, event):
            raise self._mismatch(event, future)
        del self.open[path]
        if not future.done():
            future.deliver(future, event)

    def _settle_late(self, event: events.AnyEvent) -> None:
        """An outcome that was on its way when workflow code ended; the next generation, if there is one, takes it
        along."""
        match event:
            case events.MessageReceived(name=name, value=value, sender=sender):
                self.letters.setdefault(name, deque()).append(events.Letter(name, value, sender))
            case events.CancelRequested(reason=reason):
                self.cancel_reason = self.cancel_reason if self.cancel_reason is not None else reason
            case events.UpdateReceived():
                pass  # whoever sent it is told that the run has ended
            case events.ChildEnded():
                for path in self.children.end(event):
                    self._forget(path)
            case _:
                path: str = getattr(event, "path", "")
                future = self.open.get(path)
                if future is not None and not fits(future.command, event):
                    raise self._mismatch(event, future)
                if future is None and path not in self.left and not isinstance(self._ending, commands.Blocked):
                    raise self._mismatch(event)
                if future is not None and isinstance(event, events.StepCompleted):
                    self.undo.note(future.command, event.value)
                self._forget(path)

    def _forget(self, path: str) -> None:
        future = self.open.pop(path, None)
        if future is not None:
            unwind(future)
        self.left.discard(path)

    def _check_begun(self, event: events.AnyEvent) -> None:
        """What the engine has begun is something that this code asks for: else it would never be brought to an end."""
        path: str = getattr(event, "path", "")
        future = self.open.get(path)
        if future is not None and not fits(future.command, event):
            raise self._mismatch(event, future)
        if future is None and path not in self.left and not isinstance(self._ending, commands.Blocked):
            raise self._mismatch(event)

    def _mismatch(self, event: events.AnyEvent, future: OutcomeFuture | None = None) -> Nondeterminism:
        path: str = getattr(event, "path", "")
        if future is not None:
            found = f"{describe(future.command)} at {path}"
        elif self._ending is not None:
            found = f"code that has {type(self._ending).__name__.lower()} without it"
        else:
            waiting = ", ".join(f"{describe(each.command)} at {at}" for at, each in list(self.open.items())[:5])
            found = f"waiting for {waiting or 'nothing'}"
        return Nondeterminism(f"{describe(event)} at {path}", found, path=path)

    # --- out ------------------------------------------------------------------------------------------------------

    def take_commands(self) -> list[Command]:
        """What workflow code asked for since the last call."""
        taken, self._commands = self._commands, []
        return taken

    def issue(self, command: Opened, deliver: Delivery) -> OutcomeFuture:
        """Called by Context: open a command; its future ends when the outcome is delivered.

        When workflow code may ask for nothing more, nothing is opened, and whoever awaits the future is unwound.
        """
        future = OutcomeFuture(self, command, deliver)
        if self.over:
            self.loop.track(future)
            return future
        assert command.path not in self.open, f"{command.path} is open already"
        self.open[command.path] = future
        self._emit(command)
        return future

    def wait_message(self, command: commands.AwaitMessage, deliver: Delivery) -> OutcomeFuture:
        """Open a wait for a message; the first to wait is the first to get one."""
        future = self.issue(command, deliver)
        if self.over:
            return future
        self.waiters.setdefault(command.name, deque()).append(future)
        return future

    def wait_child(self, command: commands.StartChild | commands.AwaitChild, deliver: Delivery) -> OutcomeFuture:
        """Open a wait for a child run, which may have ended already."""
        future = self.issue(command, deliver)
        if self.over:
            return future
        ended = self.children.wait(command.run_id, command.path)
        if ended is not None:
            del self.open[command.path]
            deliver(future, ended)
        return future

    def record(self, command: commands.Said) -> None:
        """A command without an outcome."""
        if not self.over:
            self._emit(command)

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

    def refuse_if_over(self) -> None:
        """Clean-up code of a machine that leaves memory must not act."""
        if self.over:
            raise Evicted

    def start_timer(self, fire_at: int, fire: Callable[[], None]) -> str:
        path = current_branch.get().leaf("@timer")
        self.issue(commands.StartTimer(path, fire_at), lambda future, event: fire())
        return path

    def cancel_timer(self, path: str) -> None:
        if path in self.open and not self.over:
            self.leave(path)

    def stop_others(self) -> None:
        """The run has failed or was cancelled: nothing but undoing goes on, and that is not cancelled any more."""
        self.undoing = True
        self.loop.cancel_all_but(self._root)
        self.leave_compensatable()

    def leave_compensatable(self) -> None:
        """What may have acted and can be undone is in doubt now."""
        for future in list(self.open.values()):
            if isinstance(future.command, commands.RunStep) and future.command.step.undo is not None:
                future.cancel()

    # --- the end --------------------------------------------------------------------------------------------------

    def _try_finish(self) -> None:
        """Finish once nothing that must be waited for is in flight; drop what need not be."""
        assert self._ending is not None
        blocked = isinstance(self._ending, commands.Blocked)
        for path, future in [] if blocked else list(self.open.items()):
            if self._may_drop(future.command):
                del self.open[path]
                self.left.add(path)
                if isinstance(future.command, commands.RunStep) and isinstance(self._ending, commands.Continued):
                    self.undo.left_in_doubt(future.command)
                self._emit_cancel(future.command)
                unwind(future)
        if self.open and not blocked:
            return
        self.finished = True
        self._emit(Finish(self._ending))
        self.evict()

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
