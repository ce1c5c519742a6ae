"""A run's journal, read for people: what happened at each path, in which state it is, and how long it took.

The journal holds outcomes, not beginnings: a step that is in flight in another process is not in it, and the inputs of
steps are there as hashes only. Everything shown here is derived; nothing is stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from cadenza.agents.elsewhere import whole
from cadenza.agents.usage import Usage, by_agent, of_memos, total
from cadenza.durable import events
from cadenza.durable.failure import Failure
from cadenza.engine.engine import Engine
from cadenza.engine.store import Filter, RunRow

State = Literal["completed", "failed", "cancelled", "open", "retrying", "waiting", "doubt"]
RUNS_MAX = 500
"""How many runs of one family are read."""


@dataclass(slots=True)
class Item:
    """What happened at one path. Times are microseconds since 1970; 0 is unknown. Values are JSON bytes."""

    path: str
    kind: str
    name: str
    state: State
    began: int
    ended: int = 0
    attempts: int = 1
    input: bytes = b""
    value: bytes = b""
    failure: Failure | None = None
    tries: list[events.AttemptFailed] = field(default_factory=list[events.AttemptFailed])
    memos: list[events.MemoSaved] = field(default_factory=list[events.MemoSaved])
    notes: list[str] = field(default_factory=list[str])
    input_hash: str = ""
    done_by: str = ""
    child: str = ""
    copied: int = 0
    """How many of its memos a fork has copied: its origin has paid for them."""

    @property
    def took(self) -> int:
        """Microseconds from the first beginning that is known to the end; 0 if it is open."""
        return max(0, self.ended - self.began) if self.ended else 0

    def used(self) -> tuple[Usage, ...]:
        """What the model requests of an agent's turn used, one row an agent; those of a turn that failed count too."""
        return by_agent(of_memos((each.key, each.value) for each in self.memos)) if self.memos else ()

    def paid(self) -> tuple[Usage, ...]:
        """The part of it that this run has paid for, and not the one of which it is a fork."""
        own = self.memos[self.copied :]
        return by_agent(of_memos((each.key, each.value) for each in own)) if own else ()

    @property
    def branch(self) -> str:
        return self.path.rpartition("/")[0]

    @property
    def leaf(self) -> str:
        return self.path.rpartition("/")[2]


@dataclass(slots=True)
class Generation:
    """One journal of a run: from its start to its end or to ``continue_as_new``."""

    number: int
    began: int
    input: bytes
    ended: int = 0
    items: dict[str, Item] = field(default_factory=dict[str, Item])
    waiting: tuple[str, ...] = ()
    patches: list[str] = field(default_factory=list[str])
    messages: int = 0


@dataclass(slots=True)
class History:
    """A run with all its generations; ``children`` by run id."""

    row: RunRow
    events: list[events.AnyEvent]
    generations: list[Generation] = field(default_factory=list[Generation])
    children: dict[str, History] = field(default_factory=dict[str, "History"])
    result: bytes = b""
    failure: Failure | None = None
    reason: str = ""
    began: int = 0
    ended: int = 0
    last_at: int = 0
    cut: bool = False

    @property
    def input(self) -> bytes:
        return self.generations[0].input if self.generations else b""

    def items(self) -> Iterator[Item]:
        """Every item of every generation."""
        for generation in self.generations:
            yield from generation.items.values()

    def used(self) -> tuple[Usage, ...]:
        """What the model requests of this run and its children used, one row an agent: the sum of its items."""
        below = [each for child in self.children.values() for each in child.used()]
        return by_agent([*(each for item in self.items() for each in item.used()), *below])

    def copied(self) -> int:
        """How many of those requests were not made by this run, but by the one that it was forked or retried from."""
        own = sum(total(item.used()).requests - total(item.paid()).requests for item in self.items() if item.copied)
        return own + sum(child.copied() for child in self.children.values())

    def attributes(self) -> dict[str, events.Scalar]:
        """Its search attributes, as they are now."""
        found: dict[str, events.Scalar | None] = {}
        for event in self.events:
            if isinstance(event, events.AttributesSet):
                found |= event.values
        return {name: value for name, value in found.items() if value is not None}

    def count(self) -> int:
        """Items of this run and its children."""
        own = sum(len(each.items) for each in self.generations)
        return own + sum(child.count() for child in self.children.values())


def read_history(engine: Engine, row: RunRow) -> History:
    """A run and its descendants; at most 500 runs are read, ``cut`` says where there are more."""
    return _read(engine, row, [RUNS_MAX])


def _read(engine: Engine, row: RunRow, left: list[int]) -> History:
    journal = engine.store.events(row.no)
    history = _Reader(row, journal).read()
    children = engine.runs(Filter(parent=row.run_id, limit=max(1, left[0]) + 1))[::-1]
    for child in children:
        if left[0] <= 0:
            history.cut = True
            break
        left[0] -= 1
        history.children[child.run_id] = _read(engine, child, left)
    return history


class _Reader:
    """Goes through a journal once."""

    def __init__(self, row: RunRow, journal: list[events.AnyEvent]) -> None:
        self.history = History(row, journal)
        self._generation = Generation(0, row.created_at, b"")
        self._intents: dict[str, int] = {}
        self._updates: dict[str, Item] = {}

    def read(self) -> History:
        for event in self.history.events:
            self.history.last_at = event.at
            self._note(event)
        self.history.began = (
            self.history.generations[0].began if self.history.generations else self.history.row.created_at
        )
        self._leave_open()
        return self.history

    def _note(self, event: events.AnyEvent) -> None:
        match event:
            case events.RunStarted():
                self._generation = Generation(event.generation, event.at, event.input)
                self.history.generations.append(self._generation)
                self._intents.clear()
            case events.RunContinued() | events.RunCompleted() | events.RunFailed() | events.RunCancelled():
                self._end(event)
            case events.Parked(waiting=waiting):
                self._generation.waiting = waiting
            case events.Patched(id=id):
                self._generation.patches.append(id)
            case events.MessageReceived():
                self._message(event)
            case events.UpdateReceived() | events.UpdateAnswered():
                self._update(event)
            case events.CancelRequested(reason=reason):
                self._item(f"@cancel#{event.at}", "cancel", "cancel", event.at, "completed", event.at).notes.append(
                    reason or "cancellation was requested"
                )
            case events.StepCompleted() | events.StepFailed() | events.StepCancelled():
                self._step_ended(event)
            case _:
                self._note_record(event)

    def _note_record(self, event: events.AnyEvent) -> None:
        match event:
            case events.StepIntent(path=path):
                self._intents.setdefault(path, event.at)
                self._item(path, "step", _short(event.name), event.at, "open").attempts = event.attempt
            case events.AttemptFailed(path=path):
                item = self._item(path, "step", _short(event.name), event.at, "retrying")
                item.tries.append(event)
                item.attempts = event.attempt + 1
            case events.OutcomeInDoubt(path=path, reason=reason):
                self._item(path, "step", _short(event.name), event.at, "doubt").notes.append(f"in doubt: {reason}")
            case events.DoubtResolved(path=path, decision=decision, by=by):
                item = self._item(path, "step", "", event.at, "open")
                item.notes.append(f"found out: {decision}" + (f", by {by}" if by else ""))
            case events.MemoSaved(path=path):
                self._item(path, "step", "", event.at, None).memos.append(event)
            case events.TaskOpened(path=path, task=task):
                self._item(path, "ask", "ask", event.at, "waiting").input = task
            case events.TaskAnswered(path=path, answer=answer):
                self._item(path, "ask", "ask", event.at, "completed", event.at).value = answer
            case events.TimerFired(path=path):
                self._item(path, "timer", "timer", event.at, "completed", event.at)
            case events.MessageSent(path=path):
                item = self._item(path, "send", f"{event.name} to {event.to}", event.at, "completed", event.at)
                item.failure = event.failure
                item.state = "failed" if event.failure else "completed"
            case events.ChildStarted(path=path):
                item = self._item(path, "child", _short(event.workflow), event.at, "open")
                item.child = event.run_id
            case events.ChildEnded(path=path):
                item = self._item(path, "child", "", event.at, event.status, event.at)
                item.child, item.value, item.failure = event.run_id, event.value, event.failure
            case events.Forked(origin=origin):
                self._copied(origin)
            case events.MemosDiscarded(path=path, key=key):
                self._item(path, "step", "", event.at, None).notes.append(f"saved results from {key!r} on were dropped")
            case events.CancelSent(path=path):
                self._item(path, "child", "", event.at, None).notes.append("it was asked to stop")
            case _:
                pass

    def _copied(self, origin: str) -> None:
        for item in self._generation.items.values():
            item.copied = len(item.memos)
            if item.kind in ("step", "child") and not item.memos and not item.notes:
                item.notes.append(f"copied from {origin}")

    def _step_ended(self, event: events.StepCompleted | events.StepFailed | events.StepCancelled) -> None:
        state: State = "cancelled"
        if isinstance(event, events.StepCompleted):
            state = "completed"
        elif isinstance(event, events.StepFailed):
            state = "failed"
        began = getattr(event, "started_at", 0) or self._intents.get(event.path, event.at)
        item = self._item(event.path, "step", _short(event.name), began, state, event.at)
        if not item.tries and item.path not in self._intents:
            item.began = min(item.began, began) if item.memos else began
        if isinstance(event, events.StepCancelled):
            item.notes.append("cancelled: workflow code no longer waited")
            return
        item.attempts, item.input_hash, item.done_by = event.attempt, event.input_hash, event.done_by
        if isinstance(event, events.StepCompleted):
            item.value = whole(event.value, {each.key: each.value for each in item.memos})
        else:
            item.failure = event.failure

    def _message(self, event: events.MessageReceived) -> None:
        self._generation.messages += 1
        path = f"@message:{event.name}#{self._generation.messages}"
        item = self._item(path, "message", event.name, event.at, "completed", event.at)
        item.value = event.value
        if event.sender:
            item.notes.append(f"from run {event.sender}")

    def _update(self, event: events.UpdateReceived | events.UpdateAnswered) -> None:
        if isinstance(event, events.UpdateReceived):
            self._generation.messages += 1
            path = f"@update:{event.name}#{self._generation.messages}"
            self._updates[event.id] = item = self._item(path, "update", event.name, event.at, "open")
            item.input = event.value
            return
        item = self._updates.get(event.id)
        if item is None:
            return
        item.state, item.ended = "failed" if event.failure is not None else "completed", event.at
        item.value, item.failure = event.value, event.failure
        if event.refused:
            item.notes.append("refused")

    def _end(self, event: events.AnyEvent) -> None:
        history = self.history
        self._generation.ended = event.at
        match event:
            case events.RunCompleted(value=value):
                history.result = value
            case events.RunFailed(failure=failure):
                history.failure = failure
            case events.RunCancelled(reason=reason, failure=failure):
                history.reason, history.failure = reason, failure
            case _:
                return
        history.ended = event.at

    def _leave_open(self) -> None:
        """What the run waits for, from when it was last parked; an ended run waits for nothing."""
        if self.history.ended:
            for item in self.history.items():
                if not item.ended:
                    item.state = "cancelled"
            return
        known = self._generation.items
        for path in self._generation.waiting:
            if path not in known:
                leaf = path.rpartition("/")[2].rpartition("#")[0]
                kind, _, name = leaf.removeprefix("@").partition(":")
                known[path] = Item(path, kind if leaf.startswith("@") else "step", name or kind, "waiting", 0)

    def _item(self, path: str, kind: str, name: str, began: int, state: State | None, ended: int = 0) -> Item:
        """The item of a path, made or brought up to date."""
        items = self._generation.items
        item = items.get(path)
        if item is None:
            item = items[path] = Item(
                path, kind, name or path.rpartition("/")[2].rpartition("#")[0], state or "open", began
            )
        if state is not None:
            item.state = state
        item.ended = ended or item.ended
        return item


def _short(name: str) -> str:
    """A function's name without its module."""
    return name.rpartition(":")[2]
