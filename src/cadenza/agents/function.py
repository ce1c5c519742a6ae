"""Function agents: a Python function of one typed input, decorated with ``@agent``.

A call is a durable step under the agent's name, so everything that holds for steps holds for it.
"""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, ParamSpec, Self, TypeVar, cast, overload

from cadenza.agents.agent import register
from cadenza.agents.call_policy import CallPolicy, Change, refuse_twice, under
from cadenza.agents.card import Card, Skill
from cadenza.agents.carded import Carded
from cadenza.durable.context import Context
from cadenza.durable.define import Effect, Retry, StepFunction, StepOptions, steps
from cadenza.errors import DefinitionError

P = ParamSpec("P")
T = TypeVar("T")


class FunctionAgent(Carded, Generic[P, T]):
    """A card and a step. Called directly it is the plain function; ``ctx.call`` makes it durable."""

    def __init__(self, step: StepFunction[P, T], card: Card) -> None:
        super().__init__(card)
        self.step = step

    @property
    def types(self) -> tuple[Any, Any]:
        """Of the function's only input, and of what it returns."""
        positional = self.step.positional
        return positional[0] if positional else Any, self.step.types["return"]

    def invoke(self, ctx: Context, input: Any) -> Awaitable[T]:
        """See ``AnyAgent``."""
        if self.survivor is not None:
            return self.survivor.invoke(ctx, input)
        return ctx.step(cast("StepFunction[..., T]", self.step), input)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        return self.step.fn(*args, **kwargs)

    def options(self, **changes: Any) -> FunctionAgent[P, T]:
        """The same agent with other step options for one call; its policy does not hold for it."""
        twin = copy.copy(self)
        twin.step, twin.survivor = self.step.options(**changes), None
        return twin

    def within(self, change: Change, **options: Any) -> Self:
        """See ``Stepped``."""
        twin = cast("Self", self.options(**options))
        twin.step = cast("StepFunction[P, T]", change(twin.step))
        return twin


@overload
def agent(fn: Callable[P, Awaitable[T]], /) -> FunctionAgent[P, T]: ...
@overload
def agent(fn: Callable[P, T], /) -> FunctionAgent[P, T]: ...
@overload
def agent(
    *,
    name: str | None = None,
    description: str = "",
    version: str = "1",
    skills: Sequence[Skill] = (),
    price_usd: float | None = None,
    latency_s: float | None = None,
    placement: tuple[str, ...] = (),
    data_classes: tuple[str, ...] = (),
    concurrency: int | None = None,
    requests_per_minute: int | None = None,
    tokens_per_minute: int | None = None,
    owner: str = "",
    purpose: str = "",
    effect: Effect = "idempotent",
    timeout_s: float | None = None,
    heartbeat_timeout_s: float | None = None,
    retry: Retry | None = None,
    raises: tuple[type[Exception], ...] = (),
    undo: Callable[..., Any] | None = None,
    reconcile: Callable[..., Any] | None = None,
    policy: CallPolicy | None = None,
) -> Callable[[Callable[P, Any]], FunctionAgent[P, Any]]: ...
def agent(fn: Any = None, /, *, name: str | None = None, policy: CallPolicy | None = None, **options: Any) -> Any:
    """Register a function of one typed input as an agent.

    Args:
        name: unique in the project; the function's name by default.
        description: for people; the docstring's first line by default.
        skills, version, price_usd, latency_s, placement, data_classes, concurrency, requests_per_minute,
            tokens_per_minute, owner, purpose: see Card.
        effect, timeout_s, heartbeat_timeout_s, retry, raises, undo, reconcile: see ``step``.
        policy: how calls survive; see Policy.

    Raises:
        DefinitionError: not one input, contradicting options, or a name that another agent has.
    """
    card_fields: dict[str, Any] = {key: options.pop(key) for key in list(options) if key in Card.__dataclass_fields__}

    def decorate(function: Callable[..., Any]) -> FunctionAgent[..., Any]:
        step: StepFunction[..., Any] = StepFunction(function, StepOptions(**options), name)
        if len(step.parameters.parameters) != 1:
            raise DefinitionError(f"{step.name}: an agent takes one input, not {len(step.parameters.parameters)}")
        if not card_fields.get("description"):
            card_fields["description"] = (function.__doc__ or "").strip().partition("\n")[0]
        made = FunctionAgent(step, Card(name=step.label, **card_fields))
        refuse_twice(made.name, policy, options)
        made.survivor = under(made, policy)
        register(made, step.name)
        steps[step.name] = step
        return made

    return decorate if fn is None else decorate(fn)
