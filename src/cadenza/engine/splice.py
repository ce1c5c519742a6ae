"""A new run's journal made of another's: a prefix by sequence, given outcomes, and what else was done and still fits.

What is copied:
    - Every event before the cut, in order.
    - After the cut, outcomes of work that was under way there, if they were successes: what is paid for is not done
      again. A retry keeps every success that still fits when they are fed to the workflow's code in their order: that
      is what does not depend on the failure.
    - Of what is open then: its sub-results (memos). Its questions are asked again, its children and steps start anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from cadenza.durable import commands, events
from cadenza.durable.define import WorkflowFunction
from cadenza.durable.delivery import fits
from cadenza.durable.machine import Machine
from cadenza.durable.path import UNDO
from cadenza.engine.given import given_outcome
from cadenza.engine.store import RunRow, Store, attributes_of
from cadenza.errors import CadenzaError, Nondeterminism, UnknownName, UsageError

OF_A_STEP = (events.StepCompleted, events.StepFailed)
SUB_RESULTS = (events.MemoSaved, events.MemosDiscarded)


class Cut(msgspec.Struct, frozen=True):
    """Where a journal is cut.

    Attributes:
        index: events of the generation before this one are copied.
        path: whose outcome is left out; empty if none in particular is.
        late: what is kept of what finished after the cut.
        keep_memos: whether the sub-results of ``path`` are kept.
        keep_messages: whether messages that came after the cut are received again.
        how: fork, retry or reset.
    """

    index: int
    path: str = ""
    late: Literal["nothing", "under way", "everything"] = "under way"
    keep_memos: bool = False
    keep_messages: bool = False
    how: str = "fork"


class Spliced(msgspec.Struct, frozen=True):
    """A new run's journal.

    Attributes:
        undone: what the origin has undone, and the new journal says was done.
        open: the commands that have no outcome in it.
        ending: how the code ends on it, if it does.
        under_way: the paths that were open at the cut.
    """

    started: events.RunStarted
    history: tuple[events.AnyEvent, ...]
    undone: tuple[str, ...]
    open: tuple[commands.Opened, ...]
    left: frozenset[str]
    ending: commands.Ending | None
    under_way: frozenset[str]


class _Late(Exception):
    """An event after the cut cannot be kept: the code has a bug there."""

    def __init__(self, index: int) -> None:
        self.index = index


class Splice:
    """Makes the journal. ``journal`` is the origin's current generation; ``outputs`` are given outcomes by path."""

    def __init__(
        self,
        store: Store,
        row: RunRow,
        journal: list[events.AnyEvent],
        workflow: WorkflowFunction[..., Any],
        cut: Cut,
        outputs: Mapping[str, Any],
    ) -> None:
        self._store, self._row, self._journal, self._workflow = store, row, journal, workflow
        self._cut, self._outputs = cut, outputs
        self._undo_begun = {
            each.path for each in journal if isinstance(each, events.StepIntent) and each.path.endswith(UNDO)
        }
        self._kept: list[events.AnyEvent] = []
        self._letters: list[events.MessageReceived] = []
        self._given: set[str] = set()
        self._under_way: set[str] = set()
        self._machine = Machine(workflow)

    def make(self, run_id: str, now: int, parent: str = "", parent_path: str = "") -> Spliced:
        """The journal of ``run_id``, which is a child of ``parent`` at ``parent_path`` if that is given.

        Raises:
            UnknownName, UsageError, InputInvalid: a given outcome has no place, or does not fit.
            WorkflowBug: the code of this process does not fit the origin's journal.
        """
        first = self._journal[0]
        assert isinstance(first, events.RunStarted), "a generation begins with its start"
        started = msgspec.structs.replace(
            first,
            run_id=run_id,
            begun_as=first.begun_as or first.run_id,
            parent=parent,
            parent_path=parent_path,
        )
        try:
            self._feed(started)
            return self._spliced(started, run_id, now)
        finally:
            self._machine.evict()

    def _feed(self, started: events.RunStarted) -> None:
        until = len(self._journal) if self._cut.late != "nothing" else self._cut.index
        while True:
            try:
                self._copy(started, until)
                return
            except _Late as late:
                until = late.index

    def _copy(self, started: events.RunStarted, until: int) -> None:
        machine = self._machine = Machine(self._workflow)
        machine.patches.expect(each.id for each in self._journal if isinstance(each, events.Patched))
        machine.replaying = True
        self._kept, self._letters, self._given = [], [], set()
        machine.apply(started)
        for index, event in enumerate(self._journal[1 : self._cut.index], 1):
            self._take(event, index)
        self._under_way = set(machine.open)
        self._give()
        for index, event in enumerate(self._journal[self._cut.index : until], self._cut.index):
            try:
                self._take_late(event)
            except CadenzaError as error:
                raise _Late(index) from error
            self._give()
        if self._cut.late != "nothing":
            self._take_ended_children()
        missing = [path for path in self._outputs if path not in self._given]
        if missing:
            known = {getattr(each, "path", "") for each in [*self._kept, *self._open()]} - {""}
            raise UnknownName(
                "path before the cut", missing[0], known, "An output is given for what was begun by then."
            )

    # --- before the cut -------------------------------------------------------------------------------------------

    def _take(self, event: events.AnyEvent, index: int) -> None:
        path: str = getattr(event, "path", "")
        if type(event) in events.RECORD_TYPES:
            self._apply(event, index)
        elif path in self._outputs and path in self._machine.open:
            self._give_at(path, event.at)
        else:
            self._apply(event, index)

    def _apply(self, event: events.AnyEvent, index: int) -> None:
        try:
            self._machine.apply(event)
        except Nondeterminism as error:
            if not self._given:
                error.add_note(f"event {self._row.first_seq + index} of run {self._row.run_id} does not fit this code")
                raise
            given = ", ".join(sorted(self._given))
            raise UsageError(
                f"with the output that is given for {given} the run does something else than it did next: "
                f"expected {error.expected}, found {error.found}. Fork at {given}, so that what follows is done anew"
            ) from error
        self._kept.append(event)

    # --- given outcomes -------------------------------------------------------------------------------------------

    def _give(self) -> None:
        """Give the outcomes of whatever is open now."""
        for path in self._outputs:
            if path in self._machine.open and path not in self._given:
                self._give_at(path, self._last_at())

    def _give_at(self, path: str, at: int) -> None:
        event = given_outcome(self._machine.open[path].command, self._outputs[path], at)
        self._given.add(path)
        self._machine.apply(event)
        self._kept.append(event)

    def _last_at(self) -> int:
        return self._kept[-1].at if self._kept else self._journal[0].at

    # --- after the cut --------------------------------------------------------------------------------------------

    def _take_late(self, event: events.AnyEvent) -> None:
        if isinstance(event, events.MessageReceived):
            if self._cut.keep_messages:
                self._letters.append(event)
            return
        if isinstance(event, events.Patched):
            self._kept.append(event)
            return
        path: str = getattr(event, "path", "")
        future = self._machine.open.get(path)
        if self._machine.over or future is None or not (self._may_keep(path) and fits(future.command, event)):
            return
        if type(event) in events.RECORD_TYPES:
            self._machine.memos.note(event)
            self._kept.append(event)
        elif path != self._cut.path and f"{path}{UNDO}" not in self._undo_begun and _is_success(event):
            self._machine.apply(event)
            self._kept.append(event)

    def _may_keep(self, path: str) -> bool:
        return self._cut.late == "everything" or path in self._under_way

    def _take_ended_children(self) -> None:
        """Children that have completed, and whose end the origin has not written down (any more)."""
        asked: set[str] = set()
        while waiting := [each for each in self._open() if _child_of(each) and each.path not in asked]:
            for command in waiting:
                asked.add(command.path)
                self._take_ended_child(command)

    def _take_ended_child(self, command: commands.Opened) -> None:
        row = self._store.run(_child_of(command))
        older = isinstance(command, commands.AwaitChild)
        if row is None or (command.path == self._cut.path and not older):
            return
        if older and not row.ended:
            raise UsageError(
                f"the run waits for its child {row.run_id} of an earlier generation, which tells its end to nobody "
                "else. Fork the run when the child has ended, or give its output"
            )
        if not older and not (row.status == "completed" and self._may_keep(command.path)):
            return
        last = self._store.last_event(row.no)
        at = max(self._last_at(), last.at)
        ended = events.ChildEnded(at=at, path=command.path, run_id=row.run_id, status="cancelled")
        if isinstance(last, events.RunCompleted):
            ended = msgspec.structs.replace(ended, status="completed", value=last.value)
        elif isinstance(last, events.RunFailed):
            ended = msgspec.structs.replace(ended, status="failed", failure=last.failure)
        self._machine.apply(ended)
        self._kept.append(ended)

    # --- the result -----------------------------------------------------------------------------------------------

    def _open(self) -> list[commands.Opened]:
        return [each.command for each in self._machine.open.values()]

    def _spliced(self, started: events.RunStarted, run_id: str, now: int) -> Spliced:
        machine, cut = self._machine, self._cut
        ending = next((each.ending for each in machine.take_commands() if isinstance(each, commands.Finish)), None)
        still_open, left = tuple(self._open()), frozenset(machine.left)
        undone = tuple(
            each.path.removesuffix(UNDO)
            for each in machine.undo.entries()
            if each.path in self._undo_begun and each.path.removesuffix(UNDO) not in self._given
        )
        paths = {each.path for each in still_open}
        kept = [each for each in self._kept if getattr(each, "path", "") not in paths or self._outlives(each)]
        now = max([now, *(each.at for each in kept)])
        forked = events.Forked(
            at=now,
            run_id=run_id,
            origin=self._row.run_id,
            through=self._row.first_seq + cut.index - 1,
            before=cut.path,
            edited=tuple(self._outputs),
            how=cut.how,
        )
        letters = [events.stamped(each, now) for each in [*self._letters, *self._unread()]]
        history = (*kept, forked, *self._older_attributes(now), *letters)
        self._check([started, *history])
        return Spliced(started, history, undone, still_open, left, ending, frozenset(self._under_way))

    def _older_attributes(self, at: int) -> list[events.AttributesSet]:
        """Search attributes that earlier generations have set."""
        own = {name for name, _ in attributes_of(self._journal)}
        found = self._store.attributes([self._row.no]).get(self._row.no, {}) if self._row.generation else {}
        values: dict[str, events.Scalar | None] = {name: value for name, value in found.items() if name not in own}
        return [events.AttributesSet(at=at, path="@carried#1", values=values)] if values else []

    def _unread(self) -> list[events.MessageReceived]:
        """Messages that the origin has not read yet."""
        if not self._cut.keep_messages:
            return []
        letters = self._store.letters(self._row.no)
        return [each.event for each in letters if isinstance(each.event, events.MessageReceived)]

    def _outlives(self, event: events.AnyEvent) -> bool:
        """Whether a record of what is open is kept: sub-results are, unless their step is to begin from nothing."""
        return isinstance(event, SUB_RESULTS) and (event.path != self._cut.path or self._cut.keep_memos)

    def _check(self, journal: list[events.AnyEvent]) -> None:
        """What is about to be written replays. Raises WorkflowBug."""
        twin = Machine(self._workflow)
        try:
            twin.replay(journal)
        finally:
            twin.evict()


def _is_success(event: events.AnyEvent) -> bool:
    match event:
        case events.StepCompleted() | events.TaskAnswered():
            return True
        case events.ChildEnded(status=status):
            return status == "completed"
        case events.MessageSent(failure=failure):
            return failure is None
        case _:
            return False


def _child_of(command: commands.Opened) -> str:
    """The run id of the child that a command waits for."""
    return command.run_id if isinstance(command, commands.StartChild | commands.AwaitChild) else ""
