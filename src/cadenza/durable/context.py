"""Context: everything that workflow code can ask for. The same on every engine.

Methods that wait are plain functions that return awaitables: the path is allocated at the call, not at the await, so
``gather(ctx.step(a), ctx.step(b))`` is deterministic whatever finishes first.
"""

from __future__ import annotations

import asyncio
import copy
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any, Generic, NoReturn, ParamSpec, Protocol, TypeVar, cast, overload

from cadenza.durable import codec, commands, delivery
from cadenza.durable.attributes import check_attribute
from cadenza.durable.children import child_run_id
from cadenza.durable.define import StepFunction, WorkflowFunction, as_step, find_workflow
from cadenza.durable.events import Scalar
from cadenza.durable.human import Answer, HumanTask
from cadenza.durable.path import current_branch, is_label
from cadenza.durable.updates import Handler
from cadenza.errors import ContinuedAsNew, DefinitionError, UnknownName, UsageError

if TYPE_CHECKING:
    from cadenza.durable.machine import Machine, OutcomeFuture

P = ParamSpec("P")
T = TypeVar("T")
_IMMUTABLE = frozenset({str, int, float, bool, bytes, type(None)})
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Caller(Protocol):
    """Calls an agent by name on behalf of workflow code; the layers above supply it."""

    def call(self, ctx: Context, agent: Any, input: Any) -> Awaitable[Any]: ...


class NoAgents:
    """Stands where the agents layer was not imported."""

    def call(self, ctx: Context, agent: Any, input: Any) -> Awaitable[Any]:
        raise UnknownName("agent", str(agent), hint="Import cadenza, which brings the agents layer.")


class ChildHandle(Generic[T]):
    """A child run that goes on beside its parent. ``run_id`` names it, also in a later generation (``ctx.child``)."""

    def __init__(self, ctx: Context, future: OutcomeFuture) -> None:
        self._ctx, self._future = ctx, future

    @property
    def run_id(self) -> str:
        """The child's run id; a fork of the parent that starts the child anew has another one."""
        return cast("commands.StartChild", self._future.command).run_id

    async def result(self) -> T:
        """Wait for the child. Raises ChildError if it failed or was cancelled."""
        try:
            return cast("T", await asyncio.shield(self._future))
        finally:
            if self._future.done():
                self._future.machine.children.read(self.run_id)

    def send(self, name: str, value: Any = None) -> Awaitable[None]:
        """Send the child a message."""
        return self._ctx.send(self.run_id, name, value)


class Context:
    """What workflow code sees of the world."""

    caller: Caller = NoAgents()

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.pins: dict[str, Awaitable[Any]] = {}
        """What layers above have pinned in this generation of the run: steps by name; replay makes them again."""

    @property
    def run_id(self) -> str:
        return self._machine.run_id

    @property
    def generation(self) -> int:
        """How many times this run has continued as new."""
        return self._machine.generation

    # --- work -----------------------------------------------------------------------------------------------------

    @overload
    def step(self, fn: StepFunction[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]: ...
    @overload
    def step(self, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]: ...
    @overload
    def step(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]: ...
    def step(self, fn: Any, /, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        """Call a registered function durably.

        Returns:
            Awaitable of its result, decoded as its return annotation.

        Raises (at the await):
            StepError: it failed for good; an exception that the step declares in ``raises`` comes as itself.
        """
        machine = self._machine
        step = _as_registered(fn)
        step.check_result()
        if kwargs:
            args, kwargs = step.normalise(args, kwargs)
        given = [args, kwargs] if kwargs else [args]
        hashed = codec.fingerprint(given, f"an argument of {step.label}") if args or kwargs else ""
        path = current_branch.get().leaf(step.label)
        if path not in machine.settled:
            args, kwargs = _captured(args, kwargs)
        return machine.issue(commands.RunStep(path, step, args, kwargs, hashed), delivery.step_outcome)

    def call(self, agent: Any, input: Any) -> Awaitable[Any]:
        """Call an agent durably.

        Args:
            agent: its name, or the function decorated with ``@agent``.
            input: one value that fits the agent's input type.
        """
        return self.caller.call(self, agent, input)

    # --- people and messages --------------------------------------------------------------------------------------

    def ask(self, task: HumanTask) -> Awaitable[Answer]:
        """Ask a person; the run is parked until the answer is there (``asyncio.timeout`` for a deadline)."""
        codec.encode(task, HumanTask, f"the task {task.title!r}")
        hashed = codec.fingerprint([task.kind, task.options, task.value], f"the task {task.title!r}")
        path = current_branch.get().leaf("@ask")
        return self._machine.issue(commands.OpenTask(path, copy.deepcopy(task), "ask", hashed), delivery.answer)

    @overload
    def receive(self, name: str) -> Awaitable[Any]: ...
    @overload
    def receive(self, name: str, type: type[T]) -> Awaitable[T]: ...
    def receive(self, name: str, type: Any = Any) -> Awaitable[Any]:
        """The next message of this name, in order of arrival; one that does not fit ``type`` raises InputInvalid."""
        machine = self._machine
        _check_label("message", name)
        deliver = delivery.message(type)
        box = machine.letters.get(name)
        path = current_branch.get().leaf(f"@receive:{name}")
        if box and not machine.over:
            future = machine.loop.create_future()
            deliver(future, box.popleft())
            return future
        return machine.wait_message(commands.AwaitMessage(path, name), deliver)

    def send(self, run_id: str, name: str, value: Any = None) -> Awaitable[None]:
        """Put a message in another run's inbox, once. Raises StepError at the await if there is no such run."""
        _check_label("message", name)
        raw = codec.encode(value, Any, f"the message {name!r}")
        hashed = codec.fingerprint(value, f"the message {name!r}")
        path = current_branch.get().leaf(f"@send:{name}")
        return self._machine.issue(commands.SendMessage(path, run_id, name, raw, hashed), delivery.sent)

    def on_update(
        self, name: str, handler: Callable[[T], Any], *, type: Any = Any, validate: Callable[[T], object] | None = None
    ) -> None:
        """Answer updates of this name from now on: messages whose sender waits for what ``handler`` returns.

        Declare it before the first await: an update that nobody handles is refused. The workflow should not end while
        a handler is at work; whoever waits for it is told that there is no answer.

        Args:
            handler: a function, or an async one, of the update's value; it runs as a task beside the workflow's own
                code. What it raises is told to the sender, and the run goes on.
            type: what the value is decoded as; one that does not fit is refused.
            validate: a plain function that only reads; if it raises, the update is refused, and nothing has happened.
        """
        _check_label("update", name)
        self._machine.updates.handlers[name] = Handler(handler, type, validate)

    # --- child runs -----------------------------------------------------------------------------------------------

    @overload
    def run(self, workflow: WorkflowFunction[P, T], input: Any = None) -> Awaitable[T]: ...
    @overload
    def run(self, workflow: str, input: Any = None) -> Awaitable[Any]: ...
    def run(self, workflow: Any, input: Any = None) -> Awaitable[Any]:
        """Run another workflow as a child and wait for it; cancelling this run cancels the child and awaits its end."""
        return self._start_child(workflow, input, awaited=True)

    def start(self, workflow: WorkflowFunction[P, T], input: Any = None) -> ChildHandle[T]:
        """Start a child run that goes on beside this one, and after it."""
        future = self._start_child(workflow, input, awaited=False)
        return ChildHandle(self, future)

    def child(self, run_id: str, type: Any = Any) -> ChildHandle[Any]:
        """The handle of a child that an earlier generation of this run has started."""
        path = current_branch.get().leaf("@child")
        future = self._machine.wait_child(commands.AwaitChild(path, run_id), delivery.child(type))
        return ChildHandle(self, future)

    def _start_child(self, workflow: Any, input: Any, *, awaited: bool) -> OutcomeFuture:
        machine = self._machine
        named = isinstance(workflow, str)
        child = find_workflow(workflow) if named else cast("WorkflowFunction[..., Any]", workflow)
        path = current_branch.get().leaf(f"@run:{child.label}")
        run_id = child_run_id(machine.run_id, machine.generation, path)
        hashed = codec.fingerprint(input, f"the input of {child.label}")
        command = commands.StartChild(path, child.name, child.encode_input(input), hashed, run_id, awaited)
        return machine.wait_child(command, delivery.child(child.output_type))

    # --- undo, cancellation, versions -----------------------------------------------------------------------------

    def compensate(self, fn: Any, *args: Any) -> None:
        """Undo with ``fn(*args)`` if this run fails or is cancelled; the last registered is undone first."""
        self._machine.refuse_if_over()
        step = as_step(fn)
        self._machine.undo.register(current_branch.get().leaf(step.label), step, args)

    async def shield(self, work: Awaitable[T]) -> T:
        """Finish ``work`` even if this task is cancelled meanwhile; the cancellation is raised afterwards."""
        inner = asyncio.ensure_future(work)
        cancelled: asyncio.CancelledError | None = None
        while not inner.done():
            try:
                await asyncio.shield(inner)
            except asyncio.CancelledError as error:
                if inner.cancelled():
                    raise
                cancelled = error
            except Exception:
                break
        if cancelled is not None:
            raise cancelled
        return inner.result()

    def patched(self, id: str) -> bool:
        """Whether this run takes the new code: not if it passed this point before ``id`` was deployed.

        A run that is new may take the old code too, if its process ended while it was at this point.
        """
        self._machine.refuse_if_over()
        _check_label("patch", id)
        patched, news = self._machine.patches.decide(id, self._machine.replaying)
        if news:
            self._machine.record(commands.RecordPatch(id))
        return patched

    def continue_as_new(self, state: Any = None) -> NoReturn:
        """End this journal and go on with a fresh one, with ``state`` as the workflow's input.

        Unread messages, children and the undo stack are carried over. Only the workflow's own task may do this.
        """
        if not current_branch.get().is_root:
            raise UsageError("continue_as_new is called by the workflow itself, not by a task that it has created")
        raise ContinuedAsNew(state)

    # --- for those who look from outside --------------------------------------------------------------------------

    def view(self, name: str, fn: Callable[[], Any]) -> None:
        """Declare what can be read of this run from outside, without waking it: ``query`` calls ``fn``.

        Args:
            name: replaces an earlier view of that name.
            fn: a plain function that reads what the workflow has at hand, and returns plain data. It is called on a
                replay of the run, never in the run itself.
        """
        _check_label("view", name)
        self._machine.views[name] = fn

    def set_attributes(self, **values: Scalar | None) -> None:
        """Keep search attributes beside this run; ``None`` takes one away. Lists and bulk commands find runs by them.

        They are written with the run's next event, in the same transaction, and outlive ``continue_as_new``.

        Args:
            values: texts of at most 1,000 characters, numbers, or flags; at most 64 names.
        """
        for name, value in values.items():
            _check_label("attribute", name)
            check_attribute(name, value)
        self._machine.attributes.set(dict(values))

    # --- time and chance ------------------------------------------------------------------------------------------

    def now(self) -> datetime:
        """The time of the last delivered event, in UTC."""
        return EPOCH + timedelta(microseconds=self._machine.loop.now_us)

    @property
    def random(self) -> Random:
        """Randomness seeded by the run and the current task's branch."""
        return current_branch.get().random

    def uuid(self) -> uuid.UUID:
        """A version 4 UUID that replay makes again."""
        return uuid.UUID(int=self.random.getrandbits(128), version=4)

    @property
    def replaying(self) -> bool:
        """Whether workflow code is being replayed now: for logging and nothing else."""
        return self._machine.replaying


def _captured(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments as they are now: workflow code may go on to change what it has given away."""
    if not kwargs and all(type(value) in _IMMUTABLE for value in args):
        return args, kwargs
    return copy.deepcopy((args, kwargs))


def _as_registered(fn: Any) -> StepFunction[..., Any]:
    if isinstance(fn, StepFunction):
        return cast("StepFunction[..., Any]", fn)
    raise DefinitionError(
        f"{getattr(fn, '__qualname__', fn)!r} is not a step. Decorate it with @step, so that a journal can name it"
    )


def _check_label(what: str, name: str) -> None:
    if not is_label(name):
        raise DefinitionError(f"{name!r} is no name of a {what}; use letters, digits, '_', '-' and '.'")
