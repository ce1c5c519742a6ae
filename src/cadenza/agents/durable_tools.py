"""Tools whose calls are sub-results of the running step (design.md, rule 4): a call that has ended is not made again.

A call is the memo ``tool/<request>/<the model's call id>``, with the tool's own effect. What it raised for the model
to read is a result too. While a tool runs, ``step.key()`` and ``step.memo`` are those of the call.
"""

from __future__ import annotations

import asyncio
import copy
import random
from collections.abc import Callable, Mapping
from typing import Any, cast

import pydantic_ai
from pydantic_ai import RunContext
from pydantic_ai.exceptions import ApprovalRequired, CallDeferred, ModelRetry, ToolFailed
from pydantic_ai.messages import BinaryContent, ToolReturn, ToolReturnContent
from pydantic_core import to_json

from cadenza.agents.durable_model import TurnState
from cadenza.agents.tools import RESULT_BYTES_MAX, Tool
from cadenza.durable import codec
from cadenza.durable.scope import Scope, current_scope
from cadenza.errors import AgentError, AgentRefused, CadenzaError, NotSerialisable, OutcomeUnknown, PayloadTooLarge


class CallScope:
    """A part of the running step that has keys of its own: a tool call, or the turn of a sub-agent."""

    def __init__(self, outer: Scope, prefix: str) -> None:
        self._outer, self._prefix = outer, prefix

    @property
    def key(self) -> str:
        return f"{self._outer.key}/{self._prefix}"

    @property
    def undo_of(self) -> str:
        return self._outer.undo_of

    @property
    def attempt(self) -> int:
        return self._outer.attempt

    async def memo(self, key: str, fn: Callable[[], Any], effect: str, input: Any) -> Any:
        return await self._outer.memo(f"{self._prefix}/{key}", fn, effect, input)

    def saved(self) -> Mapping[str, bytes]:
        prefix = f"{self._prefix}/"
        saved: Mapping[str, bytes] = self._outer.saved()
        return {key.removeprefix(prefix): each for key, each in saved.items() if key.startswith(prefix)}

    def heartbeat(self, detail: Any) -> None:
        self._outer.heartbeat(detail)


def key_of(state: TurnState, ctx: RunContext[Any]) -> str:
    """The memo key of a tool call; ids may repeat from one response to the next, as small models' do."""
    return f"tool/{state.requests}/{ctx.tool_call_id}"


def durable(made: pydantic_ai.Tool[Any], declared: Tool[..., Any] | None) -> pydantic_ai.Tool[Any]:
    """The tool with durable calls; one that is not ``declared`` (a sub-agent) takes care of itself.

    Its function's schema is what the agent's own toolset calls. A toolset around that one, or beside it, would cost
    every request some tasks.
    """
    made.function_schema = cast("Any", DurableSchema(made.function_schema, declared))
    return made


class DurableSchema:
    """A function's schema (all of its attributes are the ``plain`` one's) whose ``call`` is durable."""

    def __init__(self, plain: Any, declared: Tool[..., Any] | None) -> None:
        self._plain, self._declared = plain, declared

    def __getattr__(self, name: str) -> Any:
        return getattr(self._plain, name)

    async def call(self, arguments: dict[str, Any], ctx: RunContext[TurnState]) -> Any:
        """The result of the call. Raises what the model is told, and what ends the step."""
        state, declared = ctx.deps, self._declared
        try:
            call = None if declared is None else _Call(declared, key_of(state, ctx), state.agent)
            if call and not ctx.tool_call_approved and await call.needs_approval(arguments):
                raise ApprovalRequired
            state.tool_calls += 1
            if call is None:
                return await self._plain.call(arguments, ctx)
            return await call.made(arguments, lambda: self._plain.call(arguments, ctx))
        except (ModelRetry, ToolFailed, ApprovalRequired, CallDeferred):
            raise
        except Exception as error:
            state.failed(error)
            raise


class _Call:
    def __init__(self, tool: Tool[..., Any], key: str, agent: str) -> None:
        self._tool, self._key, self._agent = tool, key, agent
        self._what = f"the result of the tool {tool.name} of agent {agent}"

    async def needs_approval(self, arguments: dict[str, Any]) -> bool:
        """What the tool's function says of these arguments; a later attempt is told what it has said.

        Raises:
            AgentError: the function failed.
        """
        decide = self._tool.needs_approval
        if isinstance(decide, bool):
            return False  # the model's request says that already

        async def ask() -> bool:
            try:
                found = decide(copy.deepcopy(arguments))
                return bool(await found if hasattr(found, "__await__") else found)
            except Exception as error:
                problem = f"needs_approval failed: {type(error).__name__}: {error}"
                raise AgentError(self._agent, self._part, problem, "Nothing was done.") from error

        key = f"approval/{self._key.removeprefix('tool/')}"
        given = {"tool": self._tool.name, "arguments": arguments}
        return bool(await current_scope.get().memo(key, ask, "idempotent", given))

    async def made(self, arguments: dict[str, Any], perform: Callable[[], Any]) -> Any:
        """The result of the call. Raises ModelRetry and ToolFailed for the model, and what ends the step."""
        outer = current_scope.get()

        async def act() -> dict[str, Any]:
            token = current_scope.set(CallScope(outer, self._key))
            try:
                return await self._tried(perform)
            finally:
                current_scope.reset(token)

        try:
            given = {"tool": self._tool.name, "arguments": arguments}
            return self._read(await outer.memo(self._key, act, self._tool.effect, given))
        except (PayloadTooLarge, NotSerialisable) as error:
            raise self._unkept(outer, error) from None
        except (ModelRetry, ToolFailed, CadenzaError):
            raise
        except (ApprovalRequired, CallDeferred):
            if self._tool.effect != "irreversible":
                raise
            problem = "it asked for approval while it ran, when its effect may have begun"
            raise AgentError(self._agent, self._part, problem, "Declare it with needs_approval=True.") from None
        except Exception as error:
            raise self._unknown(outer, error) from error

    @property
    def _part(self) -> str:
        return f"tool {self._tool.name}"

    def _unknown(self, outer: Scope, error: Exception) -> Exception:
        """An undeclared exception: of an irreversible tool it is an unknown outcome (rule 3)."""
        said = f"{type(error).__name__}: {error}"
        if self._tool.effect == "irreversible":
            return OutcomeUnknown(outer.key, self._key, said)
        hint = "To let the model read it and try again, declare it: @tool(raises=(…,))."
        return AgentError(self._agent, self._part, said, hint)

    def _unkept(self, outer: Scope, error: PayloadTooLarge | NotSerialisable) -> Exception:
        """Its result cannot be journaled. If it must not be done again, a person says with what result it was done."""
        if self._tool.effect == "irreversible":
            return OutcomeUnknown(outer.key, self._key, f"it was done, but its result is not known any more: {error}")
        if isinstance(error, NotSerialisable):
            return error
        problem = f"its result is {error.size_bytes:,} bytes; at most {RESULT_BYTES_MAX:,} are kept"
        hint = "Return less, or store it in a file or an object store and return where it is."
        return AgentRefused(self._agent, self._part, problem, hint)

    async def _tried(self, perform: Callable[[], Any]) -> dict[str, Any]:
        """The result of the last attempt; what a retry would not help is the only one."""
        retry = self._tool.retry
        attempts = 1 if retry is None else retry.attempts
        for attempt in range(1, attempts):
            assert retry is not None, "there is more than one attempt"
            try:
                return await self._performed(perform)
            except (ApprovalRequired, CallDeferred, AgentRefused, *retry.never_on):
                raise
            except Exception as error:
                drawn_s = retry.delay_after(attempt, random.random())
                await asyncio.sleep(max(drawn_s, getattr(error, "retry_after_s", 0.0)))
        return await self._performed(perform)

    async def _performed(self, perform: Callable[[], Any]) -> dict[str, Any]:
        limit = asyncio.timeout(self._tool.timeout_s)
        try:
            async with limit:
                value = await perform()
        except TimeoutError as error:
            if not limit.expired():
                return self._declared(error)
            late = f"took longer than {self._tool.timeout_s:g} s"
            if self._tool.effect == "irreversible":
                raise TimeoutError(late) from error
            if not self._tool.is_async:
                hint = "Its thread cannot be stopped, so it is not tried again. Make it async, or raise timeout_s."
                raise AgentRefused(self._agent, self._part, late, hint) from error
            return {"retry": f"The tool {late} and was stopped."}
        except ModelRetry as error:
            return {"retry": error.message}
        except ToolFailed as error:
            return {"failed": error.message}
        except (ApprovalRequired, CallDeferred):
            raise
        except Exception as error:
            return self._declared(error)
        return self._written(value)

    def _declared(self, error: Exception) -> dict[str, Any]:
        if isinstance(error, self._tool.raises):
            return {"retry": f"{type(error).__name__}: {error}"}
        raise error

    def _written(self, value: Any) -> dict[str, Any]:
        """The result as data. Raises PayloadTooLarge, NotSerialisable."""
        if isinstance(value, ToolReturn):
            raw, form = codec.encode(value, ToolReturn, self._what, RESULT_BYTES_MAX), "return"
        elif _holds_files(value):
            raw, form = codec.encode(value, ToolReturnContent, self._what, RESULT_BYTES_MAX), "content"
        else:
            raw, form = codec.encode(value, Any, self._what, RESULT_BYTES_MAX), "value"
        return {form: codec.decode(raw, Any, self._what)}

    def _read(self, saved: Any) -> Any:
        """The result from what was kept; or from what a person has said that it was."""
        match saved:
            case {"value": value}:
                return value
            case {"content": content}:
                return codec.decode(to_json(content), ToolReturnContent, self._what)
            case {"return": content}:
                return codec.decode(to_json(content), ToolReturn, self._what)
            case {"retry": message}:
                raise ModelRetry(message)
            case {"failed": message}:
                raise ToolFailed(message)
            case _:
                return saved


def _holds_files(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_holds_files, value))  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    return isinstance(value, BinaryContent)
