"""LLM agents: a model, instructions, tools and an output type, on Pydantic AI; a call survives crashes and upgrades.

A turn is one step, with the model's requests and the tools' calls as its sub-results. If a tool call needs a person,
the turn ends, the run asks and is parked, and another turn goes on with the answer.
"""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import sys
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import PurePath
from types import FrameType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeGuard, TypeVar, cast

import msgspec

from cadenza.agents.agent import AnyAgent, is_agent, register
from cadenza.agents.call_policy import CallPolicy, Change, refuse_twice, under
from cadenza.agents.called import called
from cadenza.agents.card import Card, Skill
from cadenza.agents.carded import Carded
from cadenza.agents.elsewhere import given_to, leave_out, restored
from cadenza.agents.function import FunctionAgent
from cadenza.agents.tools import Tool, as_tool
from cadenza.agents.turn import Asked, Called, Continuation, Definition, Paused, Returned, Turn, Verdict
from cadenza.durable import codec
from cadenza.durable.context import Context
from cadenza.durable.define import Retry, StepFunction, StepOptions, steps
from cadenza.durable.human import Answer
from cadenza.durable.path import is_label
from cadenza.durable.scope import current_scope
from cadenza.errors import AgentRefused, DefinitionError, UnknownName

if TYPE_CHECKING:
    from pydantic_ai.models import Model

    from cadenza.agents.agent_loop import Mind

T = TypeVar("T")
OPTIONS = ("model", "retry", "settings", "timeout_s")
"""What may differ from one call of an agent to the next."""


class Agent(Carded, Generic[T]):
    """An agent that thinks with a model.

    Args:
        name: unique in the project; ``ctx.call`` uses it.
        model: ``provider:name``, or several of them: the next is asked when one fails. A Pydantic AI model will do too.
        instructions: what the agent is told first. A run keeps those that it began with.
        tools: functions decorated with ``@tool``, steps, plain functions, or agents of any kind.
        output: the type of its answer; a model whose answer does not fit is told so and asked again.
        input: the type of what it is given; text is the prompt itself, anything else is given as JSON.
        settings: of each request: ``temperature``, ``max_tokens`` and what else Pydantic AI's ModelSettings knows.
        stream: tell those who watch the run the text of answers while they are written.
        requests_max: bound on the model requests of one turn.
        output_retries, tool_retries: how often the model may mend an answer, or a call of the same tool.
        timeout_s, retry: of a turn, as of any step. A repeated turn pays for nothing that was answered before.
        policy: how calls survive; see Policy.
        card: description, version, skills, price_usd, latency_s, placement, data_classes, concurrency,
            requests_per_minute, tokens_per_minute, owner, purpose: see Card.
        defined_in: where it is defined, if not in the calling module.

    Raises:
        DefinitionError: the options contradict each other, or the name belongs to another agent.
    """

    def __init__(  # noqa: PLR0913  # what an agent is, in one place
        self,
        name: str,
        *,
        model: str | Model | Sequence[str | Model],
        instructions: str = "",
        tools: Sequence[Tool[..., Any] | StepFunction[..., Any] | Callable[..., Any] | AnyAgent] = (),
        output: type[T] | Any = str,
        input: Any = str,
        settings: Mapping[str, Any] | None = None,
        stream: bool = False,
        requests_max: int = 50,
        output_retries: int = 2,
        tool_retries: int = 2,
        timeout_s: float | None = None,
        retry: Retry | None = None,
        policy: CallPolicy | None = None,
        defined_in: str = "",
        **card: Any,
    ) -> None:
        if not is_label(name):
            raise DefinitionError(f"the agent name {name!r}: use letters, digits, '_', '-' and '.'")
        self.model_names, self.model_objects = _models(name, model)
        self.instructions, self.settings = instructions, dict(settings or {})
        self.tools: dict[str, Tool[..., Any] | AnyAgent] = {}
        for each in tools:
            made: Tool[..., Any] | AnyAgent = each if _is_more_than_a_step(each) else as_tool(each)
            if made.name in self.tools:
                raise DefinitionError(f"agent {name}: two tools are named {made.name!r}. Give one @tool(name=…)")
            self.tools[made.name] = made
        self.output: Any = output
        self.input: Any = input
        self.stream, self.requests_max = stream, requests_max
        self.output_retries, self.tool_retries = output_retries, tool_retries
        self.minds: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Mind]] = weakref.WeakKeyDictionary()
        super().__init__(_card(name, card))
        self._changes: dict[str, Any] = {}
        refuse_twice(name, policy, {"timeout_s": timeout_s, "retry": retry})
        self._turn = _turn_step(self, StepOptions(timeout_s=timeout_s, retry=_sensible(retry)))
        self._definition = _definition_step(self)
        self.survivor = under(self, policy)
        register(self, defined_in or f"{_module_of(sys._getframe(1))}:{name}")  # pyright: ignore[reportPrivateUsage]
        for step in (self._turn, self._definition):
            steps[step.name] = step

    def options(self, **changes: Any) -> Self:
        """The same agent with other options for one call: ``ctx.call(writer.options(timeout_s=5), text)``.

        Its policy does not hold for it; ``policy.on`` gives it one.

        Args:
            changes: ``timeout_s`` and ``retry`` of a turn; ``model``, as of Agent; ``settings``, over the agent's own.
                Model and settings are part of the call's input: replay must be given the same ones.

        Raises:
            UnknownName: any other option. DefinitionError: no model.
        """
        if unknown := [each for each in changes if each not in OPTIONS]:
            raise UnknownName("option of a call of an agent", unknown[0], OPTIONS)
        twin = copy.copy(self)
        twin.survivor = None
        twin._changes = dict(self._changes)
        if "model" in changes:
            twin.model_names, objects = _models(self.name, changes["model"])
            for model_id, each in objects.items():
                self.model_objects.setdefault(model_id, each)
            twin._changes["models"] = twin.model_names
        if "settings" in changes:
            twin.settings = {**self.settings, **changes["settings"]}
            twin._changes["settings"] = {**self._changes.get("settings", {}), **changes["settings"]}
        if "retry" in changes:
            changes["retry"] = _sensible(changes["retry"])
        of_step = {name: each for name, each in changes.items() if name in ("timeout_s", "retry")}
        twin._turn = _turn_step(twin, msgspec.structs.replace(self._turn.settings, **of_step))
        return twin

    def _as_called(self, pinned: Definition) -> Definition:
        """The run's definition, with the options of this call."""
        if not self._changes:
            return pinned
        models, settings = self._changes.get("models", pinned.models), self._changes.get("settings", {})
        changed = dataclasses.replace(pinned, models=models, settings={**pinned.settings, **settings})
        return dataclasses.replace(changed, version=changed.hashed())

    @property
    def description(self) -> str:
        return self._card.description

    @property
    def types(self) -> tuple[Any, Any]:
        return self.input, self.output

    @property
    def own_tools(self) -> list[Tool[..., Any]]:
        """Its tools that are functions."""
        return [each for each in self.tools.values() if isinstance(each, Tool)]

    @property
    def sub_agents(self) -> dict[str, Agent[Any]]:
        return {name: each for name, each in self.tools.items() if isinstance(each, Agent)}

    @property
    def others(self) -> dict[str, AnyAgent]:
        """The agents among its tools that workflow code has to call: people and workflows."""
        return {name: each for name, each in self.tools.items() if not isinstance(each, Tool | Agent)}

    def family(self) -> dict[str, Agent[Any]]:
        """Itself and all agents below it, by name."""
        found: dict[str, Agent[Any]] = {self.name: self}
        for each in self.sub_agents.values():
            found.update(each.family())
        return found

    def within(self, change: Change, **options: Any) -> Self:
        """See ``Stepped``: the step is a turn."""
        twin = self.options(**options)
        twin._turn = change(twin._turn)
        return twin

    def prompt(self, input: Any) -> str:
        """What the model is told of an input."""
        return (
            input if isinstance(input, str) else codec.encode(input, self.input, f"the input of {self.name}").decode()
        )

    def given(self, input: Any) -> Any:
        """A validated copy of an input. Raises InputInvalid."""
        return codec.coerce(input, self.input, f"the input of {self.name}")

    def invoke(self, ctx: Context, input: Any) -> Awaitable[T]:
        """See ``AnyAgent``. Raises InputInvalid at once if the input does not fit."""
        if self.survivor is not None:
            return self.survivor.invoke(ctx, self.given(input))
        return asyncio.ensure_future(self._call(ctx, self.given(input)))

    async def _call(self, ctx: Context, input: Any) -> T:
        turn, _ = await self.converse(ctx, input, None)
        return self.read(turn)

    async def converse(self, ctx: Context, input: Any, history: Paused | None) -> tuple[Turn, Paused]:
        """One call, with people asked and others called in between; for workflow code that keeps a conversation.

        Args:
            history: the conversation so far; None for a call that none will follow.

        Returns:
            The last turn, and the conversation after it.
        """
        pinned = self._as_called(await asyncio.shield(self._pinned(ctx)))
        keep = history is not None
        paused = history or Paused()
        turn = await ctx.step(self._turn, input, pinned, Continuation(paused, keep=True) if keep else None)
        verdicts: dict[str, Verdict | Returned] = {}
        asked: tuple[Asked | Called, ...] = ()
        while turn.asked:
            if turn.paused is not None:
                paused, asked, verdicts = paused.then(turn.paused), turn.asked, {}
            waiting = [ctx.ask(each.task()) if isinstance(each, Asked) else called(ctx, each) for each in turn.asked]
            for each, came in zip(turn.asked, await asyncio.gather(*waiting), strict=True):
                verdicts[each.call_id] = Verdict.of(came) if isinstance(came, Answer) else came
            then = Continuation(paused, asked, verdicts, keep)
            turn = await ctx.step(self._turn, input, pinned, then)
        return turn, paused.then(turn.paused or Paused())

    def read(self, turn: Turn) -> T:
        """A turn's output as its type."""
        what = f"the output of {self.name}"
        return cast("T", codec.decode(codec.encode(turn.output, Any, what), self.output, what))

    def _pinned(self, ctx: Context) -> Awaitable[Definition]:
        name = self._definition.name
        if name not in ctx.pins:
            ctx.pins[name] = ctx.step(self._definition)
        return ctx.pins[name]


def _is_more_than_a_step(thing: Any) -> TypeGuard[AnyAgent]:
    """Whether it is an agent with turns, or one whose call parks the run or starts another."""
    return is_agent(thing) and not isinstance(thing, FunctionAgent)


def _models(name: str, model: str | Model | Sequence[str | Model]) -> tuple[tuple[str, ...], dict[str, Model]]:
    """The names of an agent's models, and those that were given as objects."""
    given = [model] if isinstance(model, str) or not isinstance(model, Sequence) else list(model)
    if not given:
        raise DefinitionError(f"agent {name}: give at least one model")
    names = tuple(each if isinstance(each, str) else each.model_id for each in given)
    return names, {each.model_id: each for each in given if not isinstance(each, str)}


def _sensible(retry: Retry | None) -> Retry | None:
    """The same, but never for what will not pass."""
    if retry is None:
        return None
    return msgspec.structs.replace(retry, never_on=tuple(dict.fromkeys((*retry.never_on, AgentRefused))))


def _turn_step(agent: Agent[Any], options: StepOptions) -> StepFunction[..., Turn]:
    async def turn(input: Any, pinned: Definition, then: Continuation | None = None) -> Turn:
        from cadenza.agents.agent_loop import take_turn  # heavy

        turn = await take_turn(agent, input, pinned, then)
        return leave_out(turn, current_scope.get().saved(), given_to(input, pinned.instructions, then))

    turn.__annotations__["input"] = agent.input
    step: StepFunction[..., Turn] = StepFunction(turn, options, agent.name)
    step.name = f"agent:{agent.name}"
    step.restore = _whole_turn
    return step


def _whole_turn(raw: bytes, memos: Mapping[str, bytes], arguments: tuple[Any, ...]) -> Turn:
    input, pinned = arguments[:2]
    then: Continuation | None = arguments[2] if len(arguments) > 2 else None
    return restored(raw, memos, given_to(input, pinned.instructions, then))


def _definition_step(agent: Agent[Any]) -> StepFunction[..., Definition]:
    def definition() -> Definition:
        from cadenza.agents.agent_loop import definition_of  # heavy

        return definition_of(agent)

    step: StepFunction[..., Definition] = StepFunction(
        definition, StepOptions(effect="read"), f"{agent.name}.definition"
    )
    step.name = f"agent:{agent.name}:definition"
    return step


def _card(name: str, fields: dict[str, Any]) -> Card:
    known = set(Card.__dataclass_fields__) - {"name", "input_schema", "output_schema"}
    if unknown := sorted(set(fields) - known):
        raise DefinitionError(f"agent {name}: {unknown[0]!r} is no option of an agent")
    skills: tuple[Skill, ...] = tuple(fields.pop("skills", ()))
    return Card(name=name, skills=skills, **fields)


def _module_of(frame: FrameType) -> str:
    """The module that a frame runs in; a script run as ``__main__`` has the name by which a worker would import it."""
    name = str(frame.f_globals.get("__name__", ""))
    while name == "typing" and frame.f_back is not None:  # Agent[Report](…)
        frame = frame.f_back
        name = str(frame.f_globals.get("__name__", ""))
    if name != "__main__":
        return name
    if (spec := frame.f_globals.get("__spec__")) is not None:
        return str(spec.name)
    return PurePath(str(frame.f_globals.get("__file__", name))).stem
