"""Cascade: try the cheap agent, let a validator judge, escalate to the stronger one. Every level is in the journal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from cadenza.agents.agent import AnyAgent, is_agent
from cadenza.durable.context import Context
from cadenza.durable.define import step
from cadenza.errors import AgentError, DefinitionError, OutcomeError, OutputRejected
from cadenza.routing.chosen_context import admit
from cadenza.routing.need import Need
from cadenza.routing.router import wanted
from cadenza.routing.table import need_fields
from cadenza.routing.validation import Validation, Validator


@dataclass(frozen=True, slots=True)
class Tried:
    """One level.

    Attributes:
        level: from 1.
        of: how many levels there are.
        who: the agent's name, or what was needed.
        passed: whether its answer was taken.
        why: why it was not, in words; empty if it was.
    """

    level: int
    of: int
    who: str
    passed: bool
    why: str = ""


@dataclass(frozen=True, slots=True)
class Cascaded:
    """What a cascade has answered.

    Attributes:
        value: the answer that passed.
        level: which level gave it, from 1.
        who: the agent's name, or what was needed.
        tried: every level up to that one.
    """

    value: Any
    level: int
    who: str
    tried: tuple[Tried, ...]

    @property
    def escalated(self) -> str:
        """Why the first level's answer was not taken; empty if it was."""
        return "; ".join(f"{each.who}: {each.why}" for each in self.tried if not each.passed)


@step(name="cascade", effect="read")
async def record(tried: dict[str, Any]) -> dict[str, Any]:
    """Keep in the journal how a level went."""
    return tried


async def cascade(
    ctx: Context, levels: Sequence[str | AnyAgent | Need], input: Any, *, validate: Validator | Sequence[Validator]
) -> Cascaded:
    """The first answer that passes, from the cheapest level up.

    Args:
        levels: agents, their names, or needs, the cheap ones first. Placement and data class of any of them hold for
            all, and for agents that validate.
        validate: a JSON Schema, a function of the output (or of the input and the output), an agent; or several.

    Raises:
        OutputRejected: the last level's answer did not pass either.
        DefinitionError: no levels. What the last level raises; an error of an earlier one counts as no answer.
    """
    if not levels:
        raise DefinitionError("cascade: give at least one level, the cheapest first")
    validators: list[Any] = [*validate] if isinstance(validate, list | tuple) else [validate]
    check = Validation("cascade", validators, 0, None, Any)
    constraints = _constraints(levels)
    tried: list[Tried] = []
    for number, level in enumerate(levels, 1):
        bound = _bound(level, constraints)

        async def ask(given: Any, bound: str | AnyAgent | Need = bound) -> Any:
            value = await ctx.call(bound, given)
            await _admit(ctx, validators, constraints)
            return value

        who = _name(level)
        try:
            value = await check.passed(ctx, input, ask)
        except (OutcomeError, AgentError, TimeoutError) as error:
            why = "; ".join(error.problems) if isinstance(error, OutputRejected) else _brief(error)
            tried.append(await _noted(ctx, Tried(number, len(levels), who, passed=False, why=why)))
            if number == len(levels):
                raise
        else:
            tried.append(await _noted(ctx, Tried(number, len(levels), who, passed=True)))
            return Cascaded(value, number, who, tuple(tried))
    raise AssertionError("the last level returns or raises")


async def _noted(ctx: Context, tried: Tried) -> Tried:
    await ctx.step(record, asdict(tried))
    return tried


def _constraints(levels: Sequence[str | AnyAgent | Need]) -> Need:
    """What holds for all levels. Raises DefinitionError if they are of two data classes."""
    needs = [each for each in levels if isinstance(each, Need)]
    classes = {each.data_class for each in needs if each.data_class}
    if len(classes) > 1:
        raise DefinitionError(f"cascade: one input has one data class, not {' and '.join(sorted(classes))}")
    labels = dict.fromkeys(label for each in needs for label in each.placement)
    return Need(placement=tuple(labels), data_class=next(iter(classes), ""))


def _bound(level: str | AnyAgent | Need, constraints: Need) -> str | AnyAgent | Need:
    if constraints == Need():
        return level
    if isinstance(level, Need):
        return replace(level, placement=constraints.placement, data_class=constraints.data_class)
    return replace(constraints, agent=_name(level))


async def _admit(ctx: Context, validators: Sequence[Any], constraints: Need) -> None:
    """An agent that validates sees the data too."""
    if constraints == Need():
        return
    for each in validators:
        if isinstance(each, str) or is_agent(each):
            await ctx.step(admit, f"{_name(each)}@/", need_fields(constraints))


def _name(level: Any) -> str:
    if isinstance(level, Need):
        return wanted(level)
    return level if isinstance(level, str) else str(level.name)


def _brief(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}"


def said_of(record: Mapping[str, Any]) -> str:
    """A recorded level in words."""
    head = f"level {record['level']} of {record['of']}: {record['who']}"
    return f"{head} answered" if record["passed"] else f"{head} did not: {record['why']}"
