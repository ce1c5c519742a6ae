"""Updates: messages that are validated, handled beside the workflow's own code, and answered to whoever sent them.

An update is delivered in journal order like any other outcome. Its validator and then its handler run at that place;
what was decided is a record in the same append as all that came of it. A replay asks no validator again: it does what
the journal says, so that a validator may be changed under runs that are on their way.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable
from contextvars import Context as Variables
from typing import TYPE_CHECKING, Any

import msgspec

from cadenza.durable import codec, commands, events
from cadenza.durable.failure import Failure
from cadenza.durable.path import Branch, current_branch
from cadenza.errors import UnknownName, WorkflowBug

if TYPE_CHECKING:
    from cadenza.durable.machine import Machine


class Handler(msgspec.Struct, frozen=True):
    """What a workflow does with updates of one name."""

    fn: Callable[[Any], Any]
    type: Any
    validate: Callable[[Any], object] | None


class Updates:
    """The handlers of one machine, and what its journal says of updates."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.handlers: dict[str, Handler] = {}
        self.branch = Branch("", machine.seed)
        self._accepted: set[str] = set()
        self._refused: set[str] = set()

    def expect(self, journal: Iterable[events.AnyEvent]) -> None:
        """What was decided in the journal that is to be replayed."""
        for event in journal:
            if isinstance(event, events.UpdateAccepted):
                self._accepted.add(event.id)
            elif isinstance(event, events.UpdateAnswered) and event.refused:
                self._refused.add(event.id)

    def receive(self, event: events.UpdateReceived) -> None:
        """Accept and handle an update, or refuse it."""
        if event.id in self._refused:
            self._answer(event.id, refused=True)
            return
        try:
            handler, value = self._admit(event)
        except WorkflowBug:
            raise
        except Exception as error:
            self._answer(event.id, failure=Failure.of(error), refused=True)
            return
        self._machine.record(commands.AcceptUpdate(f"@accept:{event.id}", event.id))
        variables = Variables()
        variables.run(current_branch.set, self.branch.fork())
        self._machine.loop.spawn(self._handle(event, handler, value), variables, f"update {event.name}")

    def _admit(self, event: events.UpdateReceived) -> tuple[Handler, Any]:
        """The handler and its value. Raises whatever the validator does."""
        handler = self.handlers.get(event.name)
        if handler is None:
            raise UnknownName("update of this run", event.name, self.handlers)
        value = codec.decode(event.value, handler.type, f"the update {event.name!r}")
        if handler.validate is not None and event.id not in self._accepted:
            variables = Variables()
            variables.run(current_branch.set, Branch("", self._machine.seed))
            variables.run(handler.validate, value)
        return handler, value

    async def _handle(self, event: events.UpdateReceived, handler: Handler, value: Any) -> None:
        try:
            result = handler.fn(value)
            if inspect.isawaitable(result):
                result = await result
            self._answer(event.id, value=codec.encode(result, Any, f"the answer to the update {event.name!r}"))
        except WorkflowBug:
            raise
        except asyncio.CancelledError as error:
            self._answer(event.id, failure=Failure.of(error))
            raise
        except Exception as error:
            self._answer(event.id, failure=Failure.of(error))

    def _answer(self, id: str, value: bytes = b"", failure: Failure | None = None, *, refused: bool = False) -> None:
        self._machine.record(commands.AnswerUpdate(f"@answer:{id}", id, value, failure, refused))
