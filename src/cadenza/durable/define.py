"""Definitions: steps, workflows, and their options. Registered by name, so that a journal can refer to them."""

from __future__ import annotations

import functools
import inspect
import sys
import typing
from collections.abc import Awaitable, Callable, Mapping
from pathlib import PurePath
from typing import Any, Generic, Literal, ParamSpec, TypeVar, cast, get_args, overload

import msgspec

from cadenza.durable import codec
from cadenza.durable.path import is_label
from cadenza.durable.scope import Scope, current_scope
from cadenza.errors import DefinitionError, InputInvalid, UnknownName

P = ParamSpec("P")
T = TypeVar("T")
_PLAIN = (str, int, float, bool)
Effect = Literal["read", "idempotent", "compensatable", "irreversible"]
Around = Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]


class Retry(msgspec.Struct, frozen=True):
    """When a failed attempt is repeated.

    Attributes:
        attempts: how many in all; 1 is no retry.
        delay_s: seconds before the second attempt.
        factor: each further delay is this many times longer.
        delay_s_max: bound on one delay, in seconds.
        jitter: share of the delay that is drawn at random (0 to 1), so that many failures do not come back at once.
        never_on: exceptions that are final at once.
    """

    attempts: int = 3
    delay_s: float = 0.2
    factor: float = 2.0
    delay_s_max: float = 60.0
    jitter: float = 0.2
    never_on: tuple[type[Exception], ...] = ()

    def delay_after(self, attempt: int, draw: float) -> float:
        """Seconds to wait after the failed ``attempt`` (from 1); ``draw`` is uniform in [0, 1)."""
        delay = min(self.delay_s * self.factor ** min(attempt - 1, 64), self.delay_s_max)
        return delay * (1.0 - self.jitter * draw)


class StepOptions(msgspec.Struct, frozen=True):
    """How a step runs; see ``step``."""

    effect: Effect = "idempotent"
    timeout_s: float | None = None
    heartbeat_timeout_s: float | None = None
    retry: Retry | None = None
    raises: tuple[type[Exception], ...] = ()
    undo: Callable[..., Any] | None = None
    reconcile: Callable[..., Any] | None = None

    def check(self, name: str) -> None:
        """Refuse options that contradict each other. Raises DefinitionError."""
        if self.effect not in get_args(Effect):
            raise DefinitionError(f"{name}: effect is one of {', '.join(get_args(Effect))}, not {self.effect!r}")
        if (self.effect == "compensatable") != (self.undo is not None):
            raise DefinitionError(f"{name}: effect='compensatable' and undo=… go together; one is missing")
        if self.reconcile is not None and self.effect != "irreversible":
            raise DefinitionError(f"{name}: reconcile=… is for effect='irreversible' only")
        if self.effect == "irreversible" and self.retry is not None:
            raise DefinitionError(
                f"{name}: the engine never retries an irreversible step. Give reconcile=… to find out what happened"
            )
        if self.retry is not None and (self.retry.attempts < 1 or self.retry.delay_s < 0):
            raise DefinitionError(f"{name}: Retry needs attempts >= 1 and delay_s >= 0")
        for limit in (self.timeout_s, self.heartbeat_timeout_s):
            if limit is not None and limit <= 0:
                raise DefinitionError(f"{name}: a time limit is a positive number of seconds, not {limit}")


class Signature(Generic[P, T]):
    """A registered function: its name, parameters and types, read at first use."""

    kind = "function"

    def __init__(self, fn: Callable[P, Any], label: str | None) -> None:
        self.fn = fn
        self.name = f"{_module(fn)}:{fn.__qualname__}"
        self.label = label or fn.__name__.strip("<>")
        if not is_label(self.label):
            raise DefinitionError(f"{self.name}: {self.label!r} is no name; use letters, digits, '_', '-' and '.'")
        self.is_async = inspect.iscoroutinefunction(fn)
        functools.update_wrapper(cast("Any", self), fn)

    @functools.cached_property
    def parameters(self) -> inspect.Signature:
        return inspect.signature(self.fn)

    @functools.cached_property
    def types(self) -> dict[str, Any]:
        """Parameter names, and ``return``, to their annotations; ``Any`` where there is none."""
        try:
            hints = typing.get_type_hints(self.fn, include_extras=True)
        except (NameError, TypeError):  # a name that exists only for the type checker, or in a function's body
            hints = {}
        hints = {name: Any if hint is inspect.Parameter.empty else hint for name, hint in hints.items()}
        names = [*self.parameters.parameters, "return"]
        return {name: hints.get(name, Any) for name in names}

    @functools.cached_property
    def positional(self) -> list[Any]:
        """The types of the parameters, in order."""
        return [self.types[name] for name in self.parameters.parameters]

    @functools.cached_property
    def result(self) -> codec.Codec:
        """Writes and reads what the function returns."""
        return codec.codec_of(self.types["return"])

    def check_result(self) -> None:
        """Refuse a type that cannot be journaled before anything runs that has such a result. Raises
        DefinitionError."""
        if "result" not in self.__dict__:
            self.__dict__["result"] = codec.codec_of(self.types["return"])

    @functools.cached_property
    def plain_types(self) -> list[Any]:
        """For each parameter the plain type whose values need no copy, else None."""
        return [each if each in _PLAIN else None for each in self.positional]

    def normalise(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments in one form, so that ``f(1)`` and ``f(x=1)`` are the same call. Raises InputInvalid."""
        try:
            bound = self.parameters.bind(*args, **kwargs)
        except TypeError as error:
            raise InputInvalid(f"the call of {self.label}", [("(arguments)", str(error), "")]) from error
        return bound.args, bound.kwargs

    def coerce(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Fresh, validated copies of the arguments: what a step does to them cannot reach workflow code."""
        if not kwargs and len(args) <= len(self.plain_types):
            for value, plain in zip(args, self.plain_types, strict=False):
                if type(value) is not plain:
                    break
            else:
                return args, kwargs
        types = self.positional
        names = list(self.parameters.parameters)
        fresh: list[Any] = []
        for index, value in enumerate(args):
            annotation = types[index] if index < len(types) else Any
            name = names[index] if index < len(names) else f"argument {index + 1}"
            fresh.append(codec.coerce(value, annotation, f"{name} of {self.label}"))
        named = {k: codec.coerce(v, self.types.get(k, Any), f"{k} of {self.label}") for k, v in kwargs.items()}
        return tuple(fresh), named


class StepFunction(Signature[P, T]):
    """A function that may have effects. Called in workflow code through ``ctx.step``; elsewhere it is the function."""

    kind = "step"
    around: Around | None = None
    """Calls each attempt, on the real loop, with its time limits; what it raises is how the attempt has failed."""

    def __init__(self, fn: Callable[P, Any], options: StepOptions, label: str | None = None) -> None:
        super().__init__(fn, label)
        options.check(self.label)
        self._options = options
        self.undo = None if options.undo is None else as_step(options.undo)
        self.reconcile = options.reconcile
        self.restore: Callable[[bytes, Mapping[str, bytes], tuple[Any, ...]], T] | None = None
        """Makes the result whole, from the outcome, the step's memos and its arguments; see ``memos``."""

    @property
    def settings(self) -> StepOptions:
        """The options in force."""
        return self._options

    def options(self, **changes: Any) -> StepFunction[P, T]:
        """The same step with other options for one call: ``ctx.step(charge.options(timeout_s=5), order)``."""
        known = StepOptions.__struct_fields__
        if unknown := [name for name in changes if name not in known]:
            raise UnknownName("step option", unknown[0], known)
        twin: StepFunction[P, T] = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin._options = msgspec.structs.replace(self._options, **changes)
        twin._options.check(self.label)
        twin.undo = None if twin._options.undo is None else as_step(twin._options.undo)
        twin.reconcile = twin._options.reconcile
        return twin

    def within(self, around: Around) -> StepFunction[P, T]:
        """The same step, whose attempts are called by ``around``."""
        twin = self.options()
        twin.around = around
        return twin

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        return self.fn(*args, **kwargs)


class WorkflowOptions(msgspec.Struct, frozen=True):
    """How runs of a workflow are admitted; see ``workflow``."""

    concurrency: int | None = None
    concurrency_key: Callable[[Any], str] | None = None
    on_failure: WorkflowFunction[..., Any] | str | None = None


class WorkflowFunction(Signature[P, T]):
    """An async function of a Context and at most one input."""

    kind = "workflow"

    def __init__(self, fn: Callable[P, Awaitable[T]], options: WorkflowOptions, label: str | None = None) -> None:
        super().__init__(fn, label)
        self.options = options
        if not self.is_async:
            raise DefinitionError(f"{self.name}: a workflow is an 'async def' function")
        count = len(self.parameters.parameters)
        if count not in (1, 2):
            raise DefinitionError(f"{self.name}: a workflow takes (ctx) or (ctx, input), not {count} parameters")
        self.takes_input = count == 2

    @property
    def input_type(self) -> Any:
        return self.positional[1] if self.takes_input else Any

    @property
    def output_type(self) -> Any:
        return self.types["return"]

    def encode_input(self, value: Any) -> bytes:
        """The input as bytes. Raises InputInvalid if it does not fit the workflow's annotation."""
        what = f"the input of {self.label}"
        if not self.takes_input:
            if value is not None:
                raise InputInvalid(what, [("(input)", "this workflow takes none", codec._clip(value))])  # pyright: ignore[reportPrivateUsage]
            return b"null"
        return codec.encode(codec.coerce(value, self.input_type, what), self.input_type, what)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        return cast("Awaitable[T]", self.fn(*args, **kwargs))


steps: dict[str, StepFunction[..., Any]] = {}
workflows: dict[str, WorkflowFunction[..., Any]] = {}


class StepDecorator:
    """``@step`` registers a function; inside of one, ``step.memo``, ``step.key`` and ``step.heartbeat`` serve it."""

    @overload
    def __call__(self, fn: Callable[P, Awaitable[T]]) -> StepFunction[P, T]: ...
    @overload
    def __call__(self, fn: Callable[P, T]) -> StepFunction[P, T]: ...
    @overload
    def __call__(
        self,
        *,
        name: str | None = None,
        effect: Effect = "idempotent",
        timeout_s: float | None = None,
        heartbeat_timeout_s: float | None = None,
        retry: Retry | None = None,
        raises: tuple[type[Exception], ...] = (),
        undo: Callable[..., Any] | None = None,
        reconcile: Callable[..., Any] | None = None,
    ) -> _Decorate: ...
    def __call__(self, fn: Any = None, *, name: str | None = None, **options: Any) -> Any:
        """Register a step.

        Args:
            effect: what repeating it would do: ``read``, ``idempotent`` (default), ``compensatable``, ``irreversible``.
            timeout_s: seconds for one attempt.
            heartbeat_timeout_s: seconds between two ``step.heartbeat`` calls before the attempt counts as lost.
            retry: when to try again; no retry by default.
            raises: declared exceptions: final, known not to have had the effect, raised as themselves in workflow code.
            undo: for ``compensatable``: called with the outcome (None if the step ended in doubt).
            reconcile: for ``irreversible``: called with the arguments after a crash; returns ``Done(value)``,
                ``NotDone()`` or ``InDoubt(reason)``.

        Raises:
            DefinitionError: the options contradict each other.
        """

        def decorate(function: Callable[..., Any]) -> StepFunction[..., Any]:
            made: StepFunction[..., Any] = StepFunction(function, StepOptions(**options), name)
            steps[made.name] = made
            return made

        return decorate if fn is None else decorate(fn)

    async def memo(self, key: str, fn: Callable[[], Any], *, effect: Effect = "idempotent", input: Any = None) -> Any:
        """A sub-result of the running step, saved under ``key``; a later attempt gets it back without calling ``fn``.

        Args:
            key: names the sub-result within the step.
            fn: called without arguments, sync or async, if nothing is saved yet; returns plain data.
            effect: ``read`` is saved behind; others are on disk before this returns; ``irreversible`` has an intent.
            input: what the result depends on; if it differs from what was saved, saved ``read`` results from here on
                are dropped, and anything stronger blocks the run.
        """
        return await current_scope.get().memo(key, fn, effect, input)

    def key(self) -> str:
        """The idempotency key of the running call: pass it to whatever can deduplicate."""
        return current_scope.get().key

    def undo_of(self) -> str:
        """Inside of an undo: the idempotency key of the call that is undone."""
        return current_scope.get().undo_of

    def attempt(self) -> int:
        """Number of this attempt, from 1."""
        return current_scope.get().attempt

    def heartbeat(self, detail: Any = None) -> None:
        """Say that the running step is alive, with a progress ``detail`` for those who watch."""
        current_scope.get().heartbeat(detail)

    @property
    def scope(self) -> Scope:
        return current_scope.get()


class _Decorate(typing.Protocol):
    @overload
    def __call__(self, fn: Callable[P, Awaitable[T]], /) -> StepFunction[P, T]: ...
    @overload
    def __call__(self, fn: Callable[P, T], /) -> StepFunction[P, T]: ...


step = StepDecorator()


@overload
def workflow(fn: Callable[P, Awaitable[T]], /) -> WorkflowFunction[P, T]: ...
@overload
def workflow(
    *,
    name: str | None = None,
    concurrency: int | None = None,
    concurrency_key: Callable[[Any], str] | None = None,
    on_failure: WorkflowFunction[..., Any] | str | None = None,
) -> Callable[[Callable[P, Awaitable[T]]], WorkflowFunction[P, T]]: ...
def workflow(fn: Any = None, /, *, name: str | None = None, **options: Any) -> Any:
    """Register a workflow: an async function of a Context and at most one input.

    Args:
        concurrency: how many runs with the same key may be under way at once; the others wait their turn.
        concurrency_key: computes the key from the input; one key for all runs by default.
        on_failure: a workflow, or its name, that is started once with a ``FailedRun`` when a run of this one fails.
    """

    def decorate(function: Callable[..., Awaitable[Any]]) -> WorkflowFunction[..., Any]:
        made: WorkflowFunction[..., Any] = WorkflowFunction(function, WorkflowOptions(**options), name)
        workflows[made.name] = made
        return made

    return decorate if fn is None else decorate(fn)


def as_step(fn: Callable[..., Any]) -> StepFunction[..., Any]:
    """``fn`` itself if it is a step, else the plain function registered as an idempotent one."""
    if isinstance(fn, StepFunction):
        return cast("StepFunction[..., Any]", fn)
    return step(fn)


def find_step(name: str) -> StepFunction[..., Any]:
    """The step of this full name. Raises UnknownName."""
    if name not in steps:
        raise UnknownName("step", name, steps, "Was it deleted or renamed while a run still needs it?")
    return steps[name]


def find_workflow(name: str) -> WorkflowFunction[..., Any]:
    """The workflow of this full name (``module:qualname``), or of this label if one has it. Raises UnknownName."""
    if name in workflows:
        return workflows[name]
    labelled = [each for each in workflows.values() if each.label == name]
    if len(labelled) == 1:
        return labelled[0]
    raise UnknownName("workflow", name, workflows, "Import the module that defines it.")


def _module(fn: Callable[..., Any]) -> str:
    """The function's module; a script run as ``__main__`` has the name by which a worker would import it."""
    if fn.__module__ != "__main__":
        return fn.__module__
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name)
    return PurePath(getattr(main, "__file__", "__main__")).stem
