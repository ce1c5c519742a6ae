"""Tools of LLM agents: typed functions that declare what calling them again would do."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Generic, Literal, ParamSpec, TypeVar, cast, get_args, overload

from cadenza.agents.function import FunctionAgent
from cadenza.durable.define import Retry, StepFunction
from cadenza.durable.path import is_label
from cadenza.errors import DefinitionError

P = ParamSpec("P")
T = TypeVar("T")
NeedsApproval = Callable[[dict[str, Any]], Any]
"""Says of a call's arguments whether a person must approve it; may be async."""
ToolEffect = Literal["read", "idempotent", "irreversible"]
TIMEOUT_S = 300.0
RESULT_BYTES_MAX = 4_000_000


class Tool(Generic[P, T]):
    """A function that an agent's model may call. Called directly it is the plain function."""

    def __init__(  # noqa: PLR0913  # what @tool takes
        self,
        fn: Callable[P, T],
        *,
        name: str | None = None,
        description: str = "",
        effect: ToolEffect = "idempotent",
        needs_approval: bool | NeedsApproval = False,
        assignee: str = "",
        timeout_s: float | None = TIMEOUT_S,
        raises: tuple[type[Exception], ...] = (),
        retry: Retry | None = None,
    ) -> None:
        self.fn = fn
        self.name = name or getattr(fn, "__name__", "")
        self.description = description
        self.effect: ToolEffect = effect
        self.needs_approval, self.assignee = needs_approval, assignee
        self.timeout_s, self.raises, self.retry = timeout_s, raises, retry
        self.is_async = inspect.iscoroutinefunction(fn)
        if not is_label(self.name):
            raise DefinitionError(f"the tool {fn!r} has no name that a model could call: give @tool(name=…)")
        if effect not in get_args(ToolEffect):
            raise DefinitionError(
                f"the tool {self.name}: effect is one of {', '.join(get_args(ToolEffect))}, not {effect!r}. "
                "What has an undo is a step of the workflow, not a tool"
            )
        if effect == "irreversible" and retry is not None:
            raise DefinitionError(f"the tool {self.name}: what is irreversible is never tried again; drop retry=…")
        if timeout_s is not None and timeout_s <= 0:
            raise DefinitionError(f"the tool {self.name}: timeout_s is a positive number of seconds, not {timeout_s}")
        functools.update_wrapper(cast("Any", self), fn)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.fn(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<tool {self.name}>"


@overload
def tool(fn: Callable[P, T], /) -> Tool[P, T]: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str = "",
    effect: ToolEffect = "idempotent",
    needs_approval: bool | NeedsApproval = False,
    assignee: str = "",
    timeout_s: float | None = TIMEOUT_S,
    raises: tuple[type[Exception], ...] = (),
    retry: Retry | None = None,
) -> Callable[[Callable[P, T]], Tool[P, T]]: ...
def tool(fn: Any = None, /, **options: Any) -> Any:
    """Make a typed function a tool. Its name, docstring and annotations are what the model is told.

    Args:
        name: the function's name by default.
        description: the docstring by default.
        effect: what calling it again would do: ``read`` (nothing), ``idempotent`` (safe with the same ``step.key()``;
            the default), ``irreversible`` (must not happen twice: if it is unknown whether it did, a person is asked).
        needs_approval: a person approves, edits or rejects each call; the run is parked meanwhile. Or a function of the
            arguments that says whether; it is asked once a call, and what it says is kept.
        assignee: the person or group that is asked.
        timeout_s: seconds for one call; None is no limit.
        raises: exceptions whose message goes back to the model, which may try again. Any other fails the step.
        retry: when a call that failed is made again, with the same key, before the model or the step hears of it.

    Raises:
        DefinitionError: the options contradict each other.
    """

    def decorate(function: Callable[..., Any]) -> Tool[..., Any]:
        return Tool(function, **options)

    return decorate if fn is None else decorate(fn)


def as_tool(given: Any) -> Tool[..., Any]:
    """A tool, a step, a function agent, or a plain function (taken as ``idempotent``) as a tool. Raises
    DefinitionError."""
    if isinstance(given, Tool):
        return cast("Tool[..., Any]", given)
    if isinstance(given, FunctionAgent):
        given = cast("FunctionAgent[..., Any]", given).step
    if isinstance(given, StepFunction):
        step = cast("StepFunction[..., Any]", given)
        settings = step.settings
        effect = cast("ToolEffect", settings.effect)
        return Tool(
            step.fn,
            name=step.label,
            effect=effect,
            timeout_s=settings.timeout_s,
            raises=settings.raises,
            retry=settings.retry,
        )
    if inspect.isfunction(given) or inspect.ismethod(given):
        return Tool(given)
    raise DefinitionError(
        f"{given!r} is no tool: give a function, one decorated with @tool, @step or @agent, or an Agent"
    )
