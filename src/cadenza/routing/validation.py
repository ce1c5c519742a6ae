"""Whether an output is good enough: by JSON Schema, by a rule, or as another agent judges; with rounds of repair.

name.check#1      the problems that schemas and rules find; none where it passes
name#2            a round of repair: the agent is asked again, with the problems
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from cadenza.agents.agent import AnyAgent, is_agent
from cadenza.agents.json_schema import Fits
from cadenza.durable.context import Context
from cadenza.durable.define import StepFunction, StepOptions, steps
from cadenza.errors import DefinitionError, OutputRejected

Rule = Callable[..., Any]
Validator = dict[str, Any] | Rule | str | AnyAgent
"""A JSON Schema; a function of the output, or of the input and the output; an agent, or its name.

A rule returns None, True or no problems where it passes; a problem or a list of them, False, or a ValueError or
AssertionError where it does not. An agent is given ``{"input": …, "output": …}`` and answers in the same way.
"""
Repair = Callable[[Any, Any, list[str]], Any]
PASSED = ("", "ok", "yes", "pass", "passed")


class Validation:
    """The checks of one agent's outputs.

    Args:
        name: the agent's.
        validators: in the order in which they are asked; agents only where schemas and rules found nothing.
        repair_rounds: how often the agent is asked again.
        repair: makes the next input of the first input, the output and its problems.
        takes: the type of the agent's input.

    Raises:
        DefinitionError: a schema makes no sense, or nothing says how to tell the agent of its problems.
    """

    def __init__(
        self, name: str, validators: Sequence[Validator], repair_rounds: int, repair: Repair | None, takes: Any
    ) -> None:
        self.name, self._rounds, self._repair = name, repair_rounds + 1, repair
        self._rules = [_rule(name, each) for each in validators if not (isinstance(each, str) or is_agent(each))]
        self._judges = [each for each in validators if isinstance(each, str) or is_agent(each)]
        if repair_rounds and repair is None and takes not in (str, Any, dict):
            raise DefinitionError(
                f"{name}: repair_rounds={repair_rounds}, and nothing says how to tell it of its problems, as its input "
                "is no text: give repair=… , a function of (input, output, problems) that makes its next input"
            )
        self._check = self._check_step()

    async def passed(self, ctx: Context, input: Any, ask: Callable[[Any], Awaitable[Any]]) -> Any:
        """An output of ``ask`` that passes. Raises OutputRejected, or what ``ask`` raises."""
        given, problems = input, list[str]()
        for round in range(1, self._rounds + 1):
            output = await ask(given)
            problems = await self._problems(ctx, input, output)
            if not problems:
                return output
            if round < self._rounds:
                given = self._repaired(input, output, problems)
        raise OutputRejected(self.name, self._rounds, problems)

    async def _problems(self, ctx: Context, input: Any, output: Any) -> list[str]:
        if self._rules and (found := await ctx.step(self._check, input, output)):
            return found
        for judge in self._judges:
            name = judge if isinstance(judge, str) else judge.name
            if found := _read(await ctx.call(judge, _question(judge, input, output)), name):
                return found
        return []

    def _repaired(self, input: Any, output: Any, problems: list[str]) -> Any:
        if self._repair is not None:
            return self._repair(input, output, problems)
        if isinstance(input, dict):
            return {**cast("dict[str, Any]", input), "previous": output, "problems": problems}
        if not isinstance(input, str):
            return input
        listed = "\n".join(f"- {each}" for each in problems)
        return f"{input}\n\nYour last answer was:\n{_text(output)}\n\nIt is not good enough:\n{listed}\n\nMend it."

    def _check_step(self) -> StepFunction[..., list[str]]:
        async def check(input: Any, output: Any) -> list[str]:
            found: list[str] = []
            for rule in self._rules:
                try:
                    said = rule(input, output)
                    said = await said if inspect.isawaitable(said) else said
                except (ValueError, AssertionError) as error:
                    said = str(error) or type(error).__name__
                found += _read(said, getattr(rule, "__name__", "a rule"))
            return found

        made: StepFunction[..., list[str]] = StepFunction(check, StepOptions(effect="read"), f"{self.name}.check")
        made.name = f"agent:{self.name}:check"
        steps[made.name] = made
        return made


def _rule(name: str, given: Any) -> Rule:
    if isinstance(given, dict):
        fits = Fits(cast("dict[str, Any]", given), f"the schema of {name}'s output")

        def schema(input: Any, output: Any) -> list[str]:
            from pydantic import ValidationError

            try:
                fits(output)
            except ValidationError as error:
                return [f"{'.'.join(map(str, each['loc'])) or '(all)'}: {each['msg']}" for each in error.errors()]
            return []

        return schema
    if not callable(given):
        raise DefinitionError(f"{name}: validate takes a JSON Schema, a function, or an agent, not {given!r}")
    try:
        count = len(inspect.signature(given).parameters)
    except (TypeError, ValueError):
        count = 1
    if count == 2:
        return given

    def of_output(input: Any, output: Any) -> Any:
        return given(output)

    of_output.__name__ = getattr(given, "__name__", "a rule")
    return of_output


def _question(judge: Any, input: Any, output: Any) -> Any:
    asked = {"input": input, "output": output}
    takes = getattr(judge, "types", (Any, Any))[0]
    return _text(asked) if takes is str else asked


def _text(value: Any) -> str:
    from pydantic_core import to_jsonable_python

    return value if isinstance(value, str) else json.dumps(to_jsonable_python(value), ensure_ascii=False)


def _read(said: Any, who: str) -> list[str]:
    """What a rule or an agent has said, as problems."""
    if said is None or said is True:
        return []
    if said is False:
        return [f"{who} says no"]
    if isinstance(said, str):
        return [] if said.strip().lower().rstrip(".") in PASSED else [said]
    if isinstance(said, list | tuple):
        return [str(each) for each in cast("Sequence[Any]", said)]
    return [f"{who} says {said!r}"]
