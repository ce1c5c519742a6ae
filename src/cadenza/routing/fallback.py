"""Who is asked when an agent has failed: other instance, other agent, cheaper mode, person. Each is a new choice.

    writer#1              fails
    choose#1              a table, with fallback_of: who is left, and who is asked now
    writer_small#1        answers
    writer.degraded#1     what the run has got in place of what it wanted

The constraints of the first call (placement, data class) are those of each further choice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

from cadenza.agents.agent import AnyAgent, agents, is_agent
from cadenza.agents.human import HumanAgent
from cadenza.durable.context import Context
from cadenza.errors import AgentError, DefinitionError, Exhausted, OutcomeError
from cadenza.routing.chosen_context import ChosenContext
from cadenza.routing.dead_letter import bury
from cadenza.routing.degraded import Degraded, degrade, note
from cadenza.routing.need import Need
from cadenza.routing.router import choose_key, invoke

FAILURES = (OutcomeError, AgentError, TimeoutError)
"""What leads to the next level. Anything else the agent has declared: that is an answer."""


@dataclass(frozen=True, slots=True)
class OtherInstance:
    """Any other instance of the agent."""

    def __str__(self) -> str:
        return "another instance"


@dataclass(frozen=True, slots=True)
class Mode:
    """An agent that does it in a cheaper way: ``Mode(writer.options(model="small"), loses="its sources")``.

    Attributes:
        agent: it, or its name.
        loses: what the answer lacks then, in words.
    """

    agent: AnyAgent | str
    loses: str = ""

    def __str__(self) -> str:
        return self.agent if isinstance(self.agent, str) else self.agent.name


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody is asked for the answer; the run is parked until it is there.

    Attributes:
        assignee: a person or a group; anybody by default.
        question: one line; by default it names the agent that has failed.
        placement, data_classes: of the person, as on a card.
    """

    assignee: str = ""
    question: str = ""
    placement: tuple[str, ...] = ()
    data_classes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.assignee or "a person"


Level = OtherInstance | Mode | Person | AnyAgent | str
Run = Callable[[Callable[[Any], Awaitable[Any]]], Awaitable[Any]]
"""Calls with an input, within the policy's time limit and validation."""
in_chain: ContextVar[object] = ContextVar("cadenza_in_chain", default=None)
"""The policy whose level is asked: whoever is asked does not fall back itself, or chains could go round in circles."""


class Chain:
    """The levels below one agent.

    Args:
        policy: whose levels they are.
        dead_letter: whether a call that nobody could do is kept.

    Raises:
        DefinitionError: a level that is none, or the agent itself.
    """

    def __init__(self, agent: AnyAgent, levels: Sequence[Level], policy: object, *, dead_letter: bool) -> None:
        self._name, self._policy, self._dead_letter = agent.name, policy, dead_letter
        self._levels = [_prepared(agent, each) for each in levels]

    async def go_on(self, ctx: Context, key: str, input: Any, error: BaseException, within: Run) -> Any:
        """An answer of the first level that has one, after the instance ``key`` has failed with ``error``.

        Raises:
            Exhausted: nobody could do it.
        """
        chosen = ctx if isinstance(ctx, ChosenContext) else None
        need = Need() if chosen is None else Need(placement=chosen.need.placement, data_class=chosen.need.data_class)
        plain = Context(ctx._machine)  # pyright: ignore[reportPrivateUsage]
        plain.pins = ctx.pins
        tried = [(key, _why(error))]
        for number, level in enumerate(self._levels, 1):
            asked = _Asked(plain, level, replace(need, agent=level.name), [who for who, _ in tried])
            token = in_chain.set(self._policy)
            try:
                value = await asked.answer(input, within)
            except FAILURES as failed:
                tried.append((asked.key or str(level.given), _why(failed)))
                error = failed
                continue
            finally:
                in_chain.reset(token)
            if chosen is not None:
                chosen.failed = True
            loses = level.given.loses if isinstance(level.given, Mode) else ""
            record = Degraded(self._name, asked.key, number, loses, tuple(tried))
            await ctx.step(degrade, record)
            note(ctx, record)
            return value
        letter = await bury(plain, self._name, input, tried) if self._dead_letter else ""
        raise Exhausted(self._name, tried, letter) from error


@dataclass(frozen=True, slots=True)
class _Level:
    """``agent`` is an object that is called in place of the registered one of this name."""

    given: Level
    name: str
    agent: AnyAgent | None = None


class _Asked:
    """One level of one call. ``key`` is the instance that was chosen for it, if any was."""

    def __init__(self, ctx: Context, level: _Level, need: Need, tried: list[str]) -> None:
        self._ctx, self._level, self._need, self._tried = ctx, level, need, tried
        self.key = ""

    async def answer(self, input: Any, within: Run) -> Any:
        mode = isinstance(self._level.given, Mode)  # the instance that has failed may be good enough for less
        need = self._need if mode else replace(self._need, exclude=tuple(self._tried))
        self.key = await choose_key(self._ctx, need, input, self._tried[-1])
        return await (self._call(input) if isinstance(self._level.given, Person) else within(self._call))

    def _call(self, given: Any) -> Awaitable[Any]:
        if self._level.agent is None:
            return invoke(self._ctx, self._need, self.key, given)
        return self._level.agent.invoke(ChosenContext(self._ctx, self._need, self.key), given)


def _prepared(agent: AnyAgent, given: Level) -> _Level:
    """A level, checked; agents that are named are looked up when they are needed."""
    if isinstance(given, OtherInstance):
        return _Level(given, agent.name)
    if isinstance(given, Person):
        return _Level(given, _person(agent, given).name)
    asked = given.agent if isinstance(given, Mode) else given
    if isinstance(asked, str):
        if asked == agent.name:
            raise DefinitionError(f"{agent.name}: its fallback is itself. Name another agent, or give OtherInstance()")
        return _Level(given, asked)
    if not is_agent(asked):
        known = "OtherInstance(), Mode(…), Person(…), an agent or its name"
        raise DefinitionError(f"{agent.name}: {asked!r} is no level of a fallback: give {known}")
    return _Level(given, asked.name, None if agents.get(asked.name) is asked else asked)


def _person(agent: AnyAgent, given: Person) -> AnyAgent:
    name = f"{agent.name}.person"
    if name in agents:
        return agents[name]
    takes, makes = getattr(agent, "types", (Any, Any))
    return HumanAgent(
        name,
        input=takes,
        output=makes,
        question=given.question or f"{agent.name} has failed. What is the answer?",
        assignee=given.assignee,
        placement=given.placement,
        data_classes=given.data_classes,
    )


def _why(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
