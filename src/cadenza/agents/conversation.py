"""A conversation of several calls with one LLM agent. Each call's outcome holds what was new: storage stays linear."""

from __future__ import annotations

import asyncio
from typing import Any, Generic, TypeVar

from cadenza.agents.llm import Agent
from cadenza.agents.turn import Paused
from cadenza.durable.context import Context

T = TypeVar("T")


class Conversation(Generic[T]):
    """What was said so far, in workflow code. Replay tells it again; nothing is kept but the outcomes of the calls."""

    def __init__(self, ctx: Context, agent: Agent[T]) -> None:
        self._ctx, self._agent = ctx, agent
        self._said = Paused()
        self._turn = asyncio.Lock()

    async def say(self, input: Any) -> T:
        """The agent's answer to ``input``, with all that was said before. One at a time; others wait their turn.

        Raises:
            InputInvalid: the input does not fit.
            StepError: the agent failed; what was said in this call is not part of the conversation.
        """
        async with self._turn:
            given = self._agent.given(input)
            turn, self._said = await self._agent.converse(self._ctx, given, self._said)
        return self._agent.read(turn)

    @property
    def messages(self) -> list[Any]:
        """All messages, as plain data in Pydantic AI's form."""
        return list(self._said.messages)
