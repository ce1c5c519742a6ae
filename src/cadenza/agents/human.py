"""Human agents: a person or a group with a card like any other agent's. A call parks the run until it is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal, Unpack, get_args, get_origin

from cadenza.agents.agent import register
from cadenza.agents.call_policy import CallPolicy, under
from cadenza.agents.card import Card
from cadenza.agents.carded import Carded
from cadenza.agents.peer_agent import CardFields, defining_module
from cadenza.durable import codec
from cadenza.durable.context import Context
from cadenza.durable.human import Answer, HumanTask
from cadenza.durable.path import is_label
from cadenza.errors import DefinitionError, InputInvalid

TRIES_MAX = 10
"""How often a person is asked for an answer that fits."""


class HumanAgent(Carded):
    """A person, or a group, as an agent.

    What is asked for follows from ``output``: ``bool`` is yes or no, ``Literal["a", "b"]`` a choice, any other
    type a value.

    Args:
        name: unique in the project.
        input, output: types of what is asked and answered.
        question: one line; or a function of the input that makes it. The description by default.
        assignee: the person or group that should answer; the name by default.
        deadline_s: how long to wait; the call then raises TimeoutError. Without one it waits for as long as it takes.
        policy: who is asked after the deadline; see Policy.
        fields: see Card.

    Raises:
        DefinitionError: the definition makes no sense, or another agent has the name.
    """

    def __init__(
        self,
        name: str,
        *,
        input: Any = Any,
        output: Any = str,
        question: str | Callable[[Any], str] = "",
        assignee: str = "",
        deadline_s: float | None = None,
        policy: CallPolicy | None = None,
        **fields: Unpack[CardFields],
    ) -> None:
        if not is_label(name):
            raise DefinitionError(f"{name!r} is no name of an agent; use letters, digits, '_', '-' and '.'")
        if deadline_s is not None and deadline_s <= 0:
            raise DefinitionError(f"{name}: deadline_s is a positive number of seconds, not {deadline_s}")
        super().__init__(Card(name=name, **fields))
        self._input, self._output = input, output
        self._question, self._assignee, self._deadline_s = question, assignee or name, deadline_s
        self._choices = {str(each): each for each in get_args(output)} if get_origin(output) is Literal else {}
        self.survivor = under(self, policy)
        register(self, f"{defining_module()}:{name}")

    @property
    def types(self) -> tuple[Any, Any]:
        return self._input, self._output

    def invoke(self, ctx: Context, input: Any) -> Awaitable[Any]:
        """See ``AnyAgent``. Raises InputInvalid if the input does not fit, TimeoutError at the await."""
        if self.survivor is not None:
            return self.survivor.invoke(ctx, input)
        given = codec.coerce(input, self._input, f"the input of {self.name}")
        return self._answer(ctx, given, ctx.ask(self._task(given)))

    async def _answer(self, ctx: Context, given: Any, first: Awaitable[Answer]) -> Any:
        limit = asyncio.timeout(self._deadline_s)
        try:
            async with limit:
                return await self._fitting(ctx, given, first)
        except TimeoutError as error:
            if limit.expired():
                raise TimeoutError(f"{self.name} has not answered within {self._deadline_s:g} s") from error
            raise

    async def _fitting(self, ctx: Context, given: Any, answer: Awaitable[Answer]) -> Any:
        """The first answer that fits the output type; each other one is followed by the question with the problem."""
        for tries in range(1, TRIES_MAX + 1):
            replied = await answer
            try:
                return codec.coerce(self._value(replied), self._output, f"the answer of {self.name}")
            except InputInvalid as error:
                if tries == TRIES_MAX:
                    raise
                answer = ctx.ask(self._task(given, error))
        raise AssertionError("the loop returns or raises")

    def _value(self, answer: Answer) -> Any:
        if self._output is bool:
            return answer.approved
        return self._choices.get(answer.choice, answer.choice) if self._choices else answer.value

    def _task(self, given: Any, problem: InputInvalid | None = None) -> HumanTask:
        from pydantic_core import to_jsonable_python

        asked = self._question(given) if callable(self._question) else self._question
        title = asked or self._card.description or f"A question to {self.name}"
        details: dict[str, Any] = {"agent": self.name, "input": to_jsonable_python(given)}
        if problem is not None:
            details["problem"] = str(problem)
            field, what, _ = problem.problems[0]
            title = f"{title} (again: {what if field == '(all)' else f'{field}: {what}'})"
        if self._output is bool:
            return HumanTask(title, "approve", details, assignee=self._assignee)
        if self._choices:
            return HumanTask(title, "choose", details, tuple(self._choices), assignee=self._assignee)
        details["answer_schema"] = self.card.output_schema
        return HumanTask(title, "respond", details, assignee=self._assignee)

    def __repr__(self) -> str:
        return f"<agent {self.name}>"
