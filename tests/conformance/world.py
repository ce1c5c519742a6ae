"""A world around one machine, without an engine: seeded, pure, and meaner than the real one.

It decides by lot which outcome arrives next, lets outcomes pile up before they are delivered, fails steps, cancels the
run, and journals what the engine would journal. It gives the run's story: for each generation the journal, and what
workflow code had asked for after each delivery.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

from cadenza.durable import codec, commands, events
from cadenza.durable.commands import signature_of
from cadenza.durable.failure import Failure
from cadenza.durable.human import Answer
from cadenza.durable.machine import Machine
from cadenza.errors import CadenzaError
from tests.conformance.shape import Shape

T0 = 1_750_000_000_000_000
TURNS_MAX = 3_000
End = Literal["completed", "failed", "cancelled", "continued", "blocked", "waiting"]


@dataclass(frozen=True)
class Mood:
    """What kind of world it is; all are probabilities from 0 to 1.

    Attributes:
        lag: that the next outcome is journaled before the one before it was delivered.
        chaos: that a step fails, whatever it does.
        cancel: that the run is cancelled in a turn.
        crash: that the process ends in a turn: the machine is thrown away and the journal replayed.
    """

    lag: float = 0.0
    chaos: float = 0.0
    cancel: float = 0.0
    crash: float = 0.0


CALM = Mood()
LAGGING = Mood(lag=0.6)
ROUGH = Mood(lag=0.3, chaos=0.2, cancel=0.04)
CRASHING = Mood(lag=0.3, crash=0.15)


@dataclass
class Life:
    """One generation as it was lived.

    Attributes:
        marks: after the first k events of the journal were delivered, how many commands had been made, and which were
            open.
        steps: every step that was asked for, by path.
        unsaid: lengths of the journal at which new code had been taken (``ctx.patched``) and the journal did not say so
            yet: a run that crashes there takes the old side; nothing but ``read`` steps has been done on the new one.
    """

    journal: list[events.AnyEvent] = field(default_factory=list[events.AnyEvent])
    trace: list[str] = field(default_factory=list[str])
    marks: dict[int, tuple[int, list[str]]] = field(default_factory=dict[int, tuple[int, list[str]]])
    steps: dict[str, commands.RunStep] = field(default_factory=dict[str, commands.RunStep])
    unsaid: list[range] = field(default_factory=list[range])
    ending: commands.Ending | None = None

    @property
    def end(self) -> End:
        return "waiting" if self.ending is None else type(self.ending).__name__.lower()  # type: ignore[return-value]

    def mark_at(self, count: int) -> tuple[int, list[str]]:
        """What had been asked for when ``count`` events were in the journal and delivered."""
        return self.marks[max(k for k in self.marks if k <= count)]


@dataclass
class Story:
    """All generations of one run."""

    shape: Shape
    seed: int
    mood: Mood
    run_id: str
    lives: list[Life]

    @property
    def end(self) -> End:
        return self.lives[-1].end

    @property
    def result(self) -> Any:
        ending = self.lives[-1].ending
        assert isinstance(ending, commands.Completed), ending
        return codec.decode(ending.value, self.shape.workflow.output_type, "the result")

    def __str__(self) -> str:
        return f"{self.shape.name} with seed {self.seed} in {self.mood}"


def open_in(machine: Machine) -> list[str]:
    """The open commands of a machine, in the order in which they were made."""
    return [signature_of(future.command) for future in machine.open.values()]


class World:
    """Drives one run from its start until it ends or waits for what will not come."""

    def __init__(
        self, shape: Shape, seed: int, mood: Mood = CALM, run_id: str = "", cancel_first: bool = False
    ) -> None:
        self.shape, self.seed, self.mood = shape, seed, mood
        self.random = Random(f"{shape.name}:{seed}:{mood}")
        self.run_id = run_id or f"{shape.name}-{seed}"
        self.mail = deque((name, codec.encode(value, Any, name)) for name, value in shape.messages)
        self.now = T0
        self.pending: dict[str, commands.Opened] = {}
        self.children: dict[str, commands.StartChild] = {}
        self.letters: dict[str, list[tuple[str, Any]]] = {}
        self.told_to_stop: set[str] = set()
        self.stuck: dict[str, tuple[int, bool]] = {}
        self.cancelled = False
        self.cancel_first = cancel_first
        self.queue: deque[events.AnyEvent] = deque()
        self.delivered = 0
        self.life = Life()
        self.machine: Machine

    def run(self) -> Story:
        """The whole run, all generations."""
        raw = self.shape.workflow.encode_input(self.shape.input)
        started = events.RunStarted(at=self.now, run_id=self.run_id, workflow=self.shape.workflow.name, input=raw)
        story = Story(self.shape, self.seed, self.mood, self.run_id, [])
        while True:
            self._live(started)
            story.lives.append(self.life)
            ending = self.life.ending
            if not isinstance(ending, commands.Continued):
                self.machine.evict()
                return story
            last = self.life.journal[-1]
            assert isinstance(last, events.RunContinued)
            started = events.RunStarted(
                at=self.now,
                run_id=self.run_id,
                workflow=self.shape.workflow.name,
                input=last.input,
                generation=self.machine.generation + 1,
                carried=last.carried,
            )

    def _live(self, started: events.RunStarted) -> None:
        self.life, self.delivered = Life(), 0
        self.pending.clear()
        self.machine = Machine(self.shape.workflow, self.life.trace)
        self._record(started)
        self.queue.append(started)
        if self.cancel_first:
            self._cancel()
        for _ in range(TURNS_MAX):
            if not self._turn():
                break
        else:
            raise AssertionError(f"{self.run_id} does not come to an end")
        ending = self.life.ending
        if ending is not None and not isinstance(ending, commands.Blocked):
            last = self._closing(ending)
            self._record(last)
            self.machine.apply(last)

    def _turn(self) -> bool:
        arrivals = [] if self.life.ending else self._arrivals()
        draw = self.random.random()
        if self.queue and not (arrivals and draw < self.mood.lag):
            self._deliver(self.queue.popleft())
            if self.random.random() < self.mood.crash:
                self._crash()
        elif arrivals:
            self._arrive(self.random.choice(arrivals))
        else:
            return False
        if not self.life.ending and self.random.random() < self.mood.cancel:
            self._cancel()
        return True

    # --- the journal ----------------------------------------------------------------------------------------------

    def _record(self, event: events.AnyEvent) -> None:
        assert not self.life.journal or event.at >= self.life.journal[-1].at
        self.life.journal.append(event)

    def _outcome(self, event: events.Outcome) -> None:
        self._record(event)
        self.queue.append(event)

    def _deliver(self, event: events.AnyEvent) -> None:
        self.machine.apply(event)
        place = next(i for i in range(self.delivered, len(self.life.journal)) if self.life.journal[i] is event)
        self.delivered = place + 1
        taken = self.machine.take_commands()
        self.life.marks[self.delivered] = len(self.life.trace), open_in(self.machine)
        for command in taken:
            self._dispatch(command)

    def _crash(self) -> None:
        """All that is left is the journal."""
        assert self.machine.evict() == []
        self.queue.clear()
        self.life.trace = []
        self.machine = Machine(self.shape.workflow, self.life.trace)
        self.machine.replay(self.life.journal)
        self.delivered = len(self.life.journal)
        self.life.marks = {self.delivered: (len(self.life.trace), open_in(self.machine))}
        known = set(self.pending)
        self.pending = {path: each for path, each in self.pending.items() if path in self.machine.open}
        journaled = self.machine.patches.journaled
        for command in self.machine.take_commands():
            match command:
                case commands.Finish() | commands.Cancel():
                    self._dispatch(command)
                case commands.RecordPatch(id=id):
                    if id not in journaled:
                        self._dispatch(command)
                case _:
                    if command.path in self.machine.open and command.path not in known:
                        self._dispatch(command)

    # --- what becomes of commands ---------------------------------------------------------------------------------

    def _dispatch(self, command: commands.Command) -> None:
        match command:
            case commands.RunStep(path=path, name=name, input_hash=given, step=step, undo_of=undo_of):
                self.pending[path] = self.life.steps[path] = command
                if step.settings.effect == "irreversible" or undo_of:
                    self._record(events.StepIntent(at=self.now, path=path, name=name, input_hash=given))
            case commands.OpenTask(path=path, input_hash=given):
                self.pending[path] = command
                self._record(events.TaskOpened(at=self.now, path=path, task=b"{}", input_hash=given))
            case commands.StartChild(path=path, name=name, run_id=run_id, input_hash=given):
                if run_id not in self.children:
                    self.children[run_id] = command
                    started = events.ChildStarted(
                        at=self.now, path=path, run_id=run_id, workflow=name, input_hash=given
                    )
                    self._record(started)
            case commands.StartTimer(path=path) | commands.SendMessage(path=path):
                self.pending[path] = command
            case commands.Cancel(path=path):
                self._cancel_command(path)
            case commands.RecordPatch(id=id):
                self._record(events.Patched(at=self.now, id=id))
                self.life.unsaid.append(range(self.delivered + 1, len(self.life.journal)))
            case commands.Finish(ending=ending):
                self.life.ending = ending
            case _:
                pass

    def _cancel_command(self, path: str) -> None:
        command = self.pending.pop(path, None)
        if isinstance(command, commands.RunStep):
            self._record(events.StepCancelled(at=self.now, path=path, name=command.name))
        for run_id, child in self.children.items():
            if child.path == path and run_id not in self.told_to_stop:
                self.told_to_stop.add(run_id)
                self._record(events.CancelSent(at=self.now, path=path, run_id=run_id))

    def _closing(self, ending: commands.Ending) -> events.Terminal:
        match ending:
            case commands.Completed(value=value):
                return events.RunCompleted(at=self.now, value=value)
            case commands.Failed(failure=failure):
                return events.RunFailed(at=self.now, failure=failure)
            case commands.Cancelled(reason=reason, failure=failure):
                return events.RunCancelled(at=self.now, reason=reason, failure=failure)
            case commands.Continued(input=raw):
                return events.RunContinued(at=self.now, input=raw, carried=self.machine.carry())
            case commands.Blocked():
                raise AssertionError("nothing is journaled of a blocked run")

    # --- what arrives ---------------------------------------------------------------------------------------------

    def _arrivals(self) -> list[str]:
        ready = list(self.pending)
        ready += [run_id for run_id in self.children if self.stuck.get(run_id) != self._told(run_id)]
        return [*ready, *(["mail"] if self.mail else [])]

    def _told(self, run_id: str) -> tuple[int, bool]:
        """What a child has been told until now."""
        return len(self.letters.get(run_id, ())), run_id in self.told_to_stop

    def _arrive(self, what: str) -> None:
        self.now += self.random.choice((0, 1, 700, 2_500))
        if what == "mail":
            name, value = self.mail.popleft()
            self._outcome(events.MessageReceived(at=self.now, name=name, value=value))
        elif what in self.children:
            self._child_ends(what)
        else:
            self._outcome(self._outcome_of(what, self.pending.pop(what)))

    def _cancel(self) -> None:
        if not self.cancelled:
            self.cancelled = True
            self._outcome(events.CancelRequested(at=self.now, reason="by lot"))

    def _outcome_of(self, path: str, command: commands.Opened) -> events.Outcome:
        match command:
            case commands.RunStep():
                return self._step_outcome(command)
            case commands.StartTimer(fire_at=fire_at):
                self.now = max(self.now, fire_at)
                return events.TimerFired(at=self.now, path=path, fire_at=fire_at)
            case commands.SendMessage(to=to, name=name, value=value, input_hash=given):
                failure = None
                if to in self.children or to == self.run_id:
                    self.letters.setdefault(to, []).append((name, codec.decode(value, Any, name)))
                else:
                    failure = Failure("cadenza.errors:UnknownName", f"no run is named {to!r}")
                return events.MessageSent(at=self.now, path=path, to=to, name=name, failure=failure, input_hash=given)
            case commands.OpenTask(task=task):
                answer = codec.encode(self.shape.answer(task), Answer, "the answer")
                return events.TaskAnswered(at=self.now, path=path, answer=answer)
            case _:
                raise AssertionError(f"nothing arrives for {command}")

    def _step_outcome(self, command: commands.RunStep) -> events.Outcome:
        settings = command.step.settings
        common: dict[str, Any] = {
            "at": self.now,
            "path": command.path,
            "name": command.name,
            "input_hash": command.input_hash,
        }
        try:
            check_unchanged(command)
            args, kwargs = command.step.coerce(command.args, command.kwargs)
            if self.random.random() < self.mood.chaos:
                raise RuntimeError("injected")
            value = finished(command.step.fn(*args, **kwargs))
        except Exception as error:
            if isinstance(error, AssertionError | CadenzaError):
                raise
            doubt = not isinstance(error, settings.raises)
            return events.StepFailed(failure=Failure.of(error), in_doubt=doubt, **common)
        raw = codec.encode(value, command.step.types["return"], command.path)
        return events.StepCompleted(value=raw, **common)

    def _child_ends(self, run_id: str) -> None:
        """The child lives its whole life in this moment, with the letters that it was sent until now."""
        command = self.children[run_id]
        workflow = shape_of(command, self.letters.get(run_id, ()))
        told = run_id in self.told_to_stop
        in_time = told and self.random.random() < 0.8
        story = World(workflow, self.seed, CALM, run_id, cancel_first=in_time).run()
        if told and story.end == "waiting":
            story = World(workflow, self.seed, CALM, run_id, cancel_first=True).run()
        ending = story.lives[-1].ending
        common: dict[str, Any] = {"at": self.now, "path": command.path, "run_id": run_id}
        match ending:
            case commands.Completed(value=value):
                event = events.ChildEnded(status="completed", value=value, **common)
            case commands.Failed(failure=failure):
                event = events.ChildEnded(status="failed", failure=failure, **common)
            case commands.Cancelled(failure=failure):
                event = events.ChildEnded(status="cancelled", failure=failure, **common)
            case _:
                self.stuck[run_id] = self._told(run_id)  # it still waits for a letter
                return
        del self.children[run_id]
        self._outcome(event)


def shape_of(command: commands.StartChild, letters: Iterable[tuple[str, Any]]) -> Shape:
    """A child run as a shape of its own."""
    from cadenza.durable.define import find_workflow

    workflow = find_workflow(command.name)
    given = codec.decode(command.input, workflow.input_type, "the input") if workflow.takes_input else None
    return Shape(workflow, given, tuple(letters))


def check_unchanged(command: commands.RunStep) -> None:
    """What runs is what was called: workflow code may have changed its arguments since."""
    given = [command.args, command.kwargs] if command.kwargs or command.undo_of else [command.args]
    hashed = codec.fingerprint(given, command.path) if command.args or command.kwargs or command.undo_of else ""
    assert hashed == command.input_hash, f"the arguments of {command.path} were changed after the call"


def finished(value: Any) -> Any:
    """What a step returns; an async one of the corpus never really waits in a pure world."""
    if not hasattr(value, "__await__"):
        return value
    try:
        value.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("a step of the corpus waits for something")
