"""What a running step can ask of the engine: a protocol, and the context variable that holds the current one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, Protocol

import msgspec

from cadenza.errors import UsageError


class Scope(Protocol):
    """The running call of a step."""

    key: str
    undo_of: str
    attempt: int

    async def memo(self, key: str, fn: Callable[[], Any], effect: str, input: Any) -> Any: ...
    def saved(self) -> Mapping[str, bytes]: ...
    def heartbeat(self, detail: Any) -> None: ...
    def now(self) -> int: ...


class Outside:
    """Stands where no step is running."""

    attempt = 0

    @property
    def key(self) -> str:
        raise UsageError("step.key() is for code inside of a running step")

    @property
    def undo_of(self) -> str:
        raise UsageError("step.undo_of() is for code inside of a running undo")

    def now(self) -> int:
        raise UsageError("the engine's time is for code inside of a running step")

    async def memo(self, key: str, fn: Callable[[], Any], effect: str, input: Any) -> Any:
        """A step that is called directly, as in a unit test, has no journal: the function is simply called."""
        value = fn()
        return await value if hasattr(value, "__await__") else value

    def saved(self) -> Mapping[str, bytes]:
        """There is no journal that would hold anything."""
        return {}

    def heartbeat(self, detail: Any) -> None:
        """Nobody watches."""


OUTSIDE = Outside()
current_scope: ContextVar[Any] = ContextVar("cadenza_scope", default=OUTSIDE)


class Done(msgspec.Struct, frozen=True):
    """A reconcile hook found that the effect happened, with this result."""

    value: Any = None


class NotDone(msgspec.Struct, frozen=True):
    """A reconcile hook found that the effect did not happen: it may be tried again."""


class InDoubt(msgspec.Struct, frozen=True):
    """A reconcile hook could not find out; a person decides."""

    reason: str = ""
