"""Sync functions in a process that can be killed: a time limit stops them, where a thread would go on (rule 13).

The process imports the function's module, and is kept for further calls. Arguments and results travel as the journal
has them, by their types. What it prints goes to stderr. ``step.memo`` is not for code that runs there.
"""

from __future__ import annotations

import asyncio
import builtins
import importlib
import itertools
import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, cast
from weakref import WeakKeyDictionary

import msgspec

from cadenza.agents.child_process import ChildProcess, Command
from cadenza.durable import codec
from cadenza.durable.define import StepFunction, find_step
from cadenza.durable.failure import Failure
from cadenza.durable.scope import current_scope
from cadenza.errors import CadenzaError, DefinitionError, UsageError
from cadenza.routing.pool import Pool, PoolOptions, processes

LINE_BYTES_MAX = 64_000_000
GRACE_S = 1.0


class FailedElsewhere(CadenzaError):
    """A function that ran in a process of its own raised an exception that cannot be made again here."""


def killable(given: StepFunction[..., Any], options: PoolOptions) -> StepFunction[..., Any]:
    """The same step, whose function runs in a process of its own.

    Args:
        options: how many processes, and when.

    Raises:
        DefinitionError: it is async, or no process could import it.
    """
    if given.is_async:
        raise DefinitionError(
            f"{given.label}: killable=True is for sync functions; an async one is stopped by its await"
        )
    module, _, name = given.name.partition(":")
    if "<" in name:
        raise DefinitionError(f"{given.label}: killable=True needs a function of a module, not one inside of another")
    pools: WeakKeyDictionary[asyncio.AbstractEventLoop, Pool[ChildProcess]] = WeakKeyDictionary()
    ids = itertools.count(1)

    async def call(*args: Any, **kwargs: Any) -> Any:
        loop = asyncio.get_running_loop()
        if loop not in pools:
            pools[loop] = processes(given.label, _command(given.label), options)
        sent = [json.loads(codec.encode(each, given.positional[n], given.label)) for n, each in enumerate(args)]
        named = {k: json.loads(codec.encode(each, given.types[k], given.label)) for k, each in kwargs.items()}
        scope = current_scope.get()
        request = {
            "step": given.name, "module": module, "args": sent, "kwargs": named,
            "key": scope.key, "attempt": scope.attempt,
        }  # fmt: skip
        async with pools[loop].instance() as child:
            reply = await child.converse(str(next(ids)), request, scope.heartbeat, last=False)
        if "failure" in reply:
            raise _rebuilt(msgspec.convert(reply["failure"], Failure), given)
        return given.result.decode(json.dumps(reply["value"]).encode(), f"the result of {given.label}")

    twin = given.options()
    twin.parameters, twin.types = given.parameters, given.types
    twin.fn, twin.is_async = cast("Callable[..., Any]", call), True
    return twin


def _command(label: str) -> Command:
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(each or os.getcwd() for each in sys.path)}
    argv = (sys.executable, "-m", __name__)
    return Command(label, argv, "", variables, (), LINE_BYTES_MAX, GRACE_S)


def _rebuilt(failure: Failure, given: StepFunction[..., Any]) -> Exception:
    """The exception that was raised there, if it is declared or one of Python's own."""
    settings = given.settings
    known = [*settings.raises, *(settings.retry.never_on if settings.retry else ())]
    module, _, name = failure.type.partition(":")
    kind = getattr(builtins, name, None) if module == "builtins" else None
    if isinstance(kind, type) and issubclass(kind, Exception):
        known.append(kind)
    return failure.rebuild(known) or FailedElsewhere(str(failure))


# --- in the process ---------------------------------------------------------------------------------------------------


class ChildScope:
    """The running call, as far as it can be seen from its process."""

    undo_of = ""

    def __init__(self, key: str, attempt: int, tell: Callable[[Any], None]) -> None:
        self.key, self.attempt, self._tell = key, attempt, tell

    def heartbeat(self, detail: Any) -> None:
        self._tell({"progress": detail})

    def now(self) -> int:
        raise UsageError("the engine's time is not known in a killable process")

    async def memo(self, key: str, fn: Callable[[], Any], effect: str, input: Any) -> Any:
        raise UsageError(f"step.memo({key!r}) has no journal in a killable process; take an async step")


def main() -> None:
    """Answer requests until the standard input ends."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what user code prints is no reply

    def tell(reply: dict[str, Any]) -> None:
        replies.write(json.dumps(reply) + "\n")
        replies.flush()

    for line in sys.stdin:
        request = json.loads(line)
        current_scope.set(ChildScope(request["key"], request["attempt"], tell))
        try:
            output: dict[str, Any] = {"value": json.loads(_answer(request))}
        except Exception as error:
            traceback.print_exc()
            output = {"failure": msgspec.to_builtins(Failure.of(error), builtin_types=())}
        tell({"id": request["id"], "output": output})


def _answer(request: dict[str, Any]) -> bytes:
    importlib.import_module(request["module"])
    found = find_step(request["step"])
    args = [
        codec.decode(json.dumps(each).encode(), found.positional[n], found.label)
        for n, each in enumerate(request["args"])
    ]
    kwargs = {
        name: codec.decode(json.dumps(each).encode(), found.types[name], found.label)
        for name, each in request["kwargs"].items()
    }
    return found.result.encode(found.fn(*args, **kwargs), f"the result of {found.label}")


if __name__ == "__main__":
    main()
