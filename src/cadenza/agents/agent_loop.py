"""One turn of an LLM agent on the real loop: Pydantic AI's own agent, with durable requests and tool calls."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import pydantic_ai
from pydantic_ai import DeferredToolRequests, DeferredToolResults, RunContext, ToolApproved, ToolDenied
from pydantic_ai.exceptions import ApprovalRequired, ToolFailed
from pydantic_ai.messages import ToolReturn
from pydantic_ai.models import Model
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import UsageLimits
from pydantic_core import ValidationError

from cadenza.agents import models
from cadenza.agents.called import tool_of
from cadenza.agents.durable_model import DurableModel, TurnState, dumped, loaded
from cadenza.agents.durable_tools import CallScope, durable, key_of
from cadenza.agents.failure import explain, is_of_model
from cadenza.agents.tools import Tool
from cadenza.agents.turn import Asked, Called, Continuation, Definition, Paused, Returned, Turn, Verdict
from cadenza.agents.usage import Usage, by_agent
from cadenza.durable import codec
from cadenza.durable.scope import current_scope

if TYPE_CHECKING:
    from cadenza.agents.llm import Agent


@dataclass
class Mind:
    """An agent as Pydantic AI has it, in one definition, on one event loop (connections belong to a loop)."""

    agent: pydantic_ai.Agent[Sitting, Any]
    model: Model
    opened: asyncio.Future[None]


@dataclass
class Sitting(TurnState):
    """A turn under way, with what concerns its sub-agents: they are tools, and may have people asked too."""

    pinned: Definition = field(default_factory=lambda: Definition("", ()))
    earlier: Paused = field(default_factory=Paused)
    verdicts: dict[str, Verdict | Returned] = field(default_factory=dict[str, "Verdict | Returned"])
    calls: dict[str, Any] = field(default_factory=dict[str, Any])
    asked: dict[str, tuple[Asked | Called, ...]] = field(default_factory=dict[str, "tuple[Asked | Called, ...]"])
    nested: dict[str, Paused] = field(default_factory=dict[str, Paused])

    def results(self) -> DeferredToolResults:
        """The verdicts as Pydantic AI takes them; a sub-agent that has asked is called again, and goes on."""
        approvals: dict[str, Any] = {call_id: ToolApproved() for call_id in self.earlier.nested}
        calls: dict[str, Any] = {}
        for call_id, verdict in self.verdicts.items():
            if "/" in call_id:
                continue
            if isinstance(verdict, Returned):
                calls[call_id] = ToolFailed(verdict.problem) if verdict.problem else ToolReturn(verdict.returned)
            elif verdict.approved:
                approvals[call_id] = ToolApproved(override_args=verdict.arguments)
            else:
                approvals[call_id] = ToolDenied(verdict.comment or "A person has refused this call.")
        return DeferredToolResults(approvals=approvals, calls=calls)

    def verdicts_below(self, call_id: str) -> dict[str, Verdict | Returned]:
        prefix = f"{call_id}/"
        return {k.removeprefix(prefix): each for k, each in self.verdicts.items() if k.startswith(prefix)}


async def take_turn(agent: Agent[Any], input: Any, pinned: Definition, then: Continuation | None) -> Turn:
    """Run the agent until it has its output, or a tool call waits for a person.

    Where the models of the definition fail, and the code names others by now, those go on: a name was wrong, or a
    provider has withdrawn a model. What had been answered is not asked again.

    Raises:
        AgentError: the model, a tool or the output failed.
        OutcomeUnknown: an irreversible tool is in doubt.
        Nondeterminism: the code asks for something else than what was answered before.
    """
    if then and (misfits := _misfits(agent, then)):
        return Turn(asked=misfits, definition=pinned.version)
    try:
        return await _turn(agent, input, pinned, then)
    except Exception as error:
        if agent.model_names == pinned.models or not is_of_model(error):
            raise
        today = dataclasses.replace(pinned, models=agent.model_names)
        return await _turn(agent, input, dataclasses.replace(today, version=today.hashed()), then)


async def _turn(agent: Agent[Any], input: Any, pinned: Definition, then: Continuation | None) -> Turn:
    mind = await _mind(agent, pinned)
    earlier, verdicts = (then.paused, then.verdicts) if then else (Paused(), {})
    sitting = Sitting(agent.name, pinned.models, agent.stream, pinned=pinned, earlier=earlier, verdicts=verdicts)
    scope = current_scope.get()
    try:
        result = await mind.agent.run(
            None if verdicts else agent.prompt(input),
            model=DurableModel(mind.model, sitting),
            deps=sitting,
            message_history=loaded(earlier.messages) if earlier.messages else None,
            deferred_tool_results=sitting.results() if verdicts else None,
            run_id=scope.key if scope.attempt else None,
            conversation_id=agent.name,
            usage_limits=UsageLimits(request_limit=agent.requests_max),
        )
    except Exception as error:
        fault = sitting.fault or explain(error, agent.name, pinned.models)
        if fault is error:
            raise
        raise fault from (fault.__cause__ or error)
    usage = by_agent([Usage(agent.name, tool_calls=sitting.tool_calls), *sitting.usages])
    messages = result.new_messages()
    if isinstance(result.output, DeferredToolRequests):
        paused = Paused(dumped(messages), sitting.nested)
        return Turn(None, _asked(agent, result.output, sitting), paused, pinned.version, usage)
    raw = codec.encode(result.output, agent.output, f"the output of agent {agent.name}")
    kept = Paused(dumped(messages)) if then and then.keep else None
    return Turn(codec.decode(raw, Any, "the output"), (), kept, pinned.version, usage)


def _asked(agent: Agent[Any], requests: DeferredToolRequests, sitting: Sitting) -> tuple[Asked | Called, ...]:
    called = [Called(each.tool_call_id, agent.name, each.tool_name, sitting.calls[each.tool_call_id])
              for each in requests.calls]  # fmt: skip
    asked: list[Asked | Called] = [*called]
    for call in requests.approvals:
        if call.tool_call_id in sitting.asked:
            asked += sitting.asked[call.tool_call_id]
            continue
        tool = agent.tools[call.tool_name]
        assignee = tool.assignee if isinstance(tool, Tool) else ""
        asked.append(Asked(call.tool_call_id, agent.name, call.tool_name, call.args_as_dict(), assignee))
    return tuple(asked)


def _misfits(agent: Agent[Any], then: Continuation) -> tuple[Asked, ...]:
    """Those of whom the edited arguments do not fit the tool: they are asked again before anything is done."""
    misfits: list[Asked] = []
    for asked in then.asked:
        verdict = then.verdicts[asked.call_id]
        if isinstance(asked, Called) or isinstance(verdict, Returned):
            continue
        owner = agent.family().get(asked.agent)
        tool = owner.tools.get(asked.tool) if owner else None
        if not verdict.approved or verdict.arguments is None or not isinstance(tool, Tool):
            continue
        try:
            _made(tool).function_schema.validator.validate_python(verdict.arguments)
        except ValidationError as error:
            problems = [f"{'.'.join(map(str, each['loc'])) or '(all)'}: {each['msg']}" for each in error.errors()]
            problem = f"the arguments do not fit {asked.tool}: {'; '.join(problems)}"
            misfits.append(dataclasses.replace(asked, problem=problem))
    return tuple(misfits)


# --- the agent as Pydantic AI has it ----------------------------------------------------------------------------------


def definition_of(agent: Agent[Any]) -> Definition:
    """What the agent is now."""
    tools: dict[str, str] = {}
    for name, tool in agent.tools.items():
        made = _as_pydantic(agent, name, 0)
        shape = [
            made.description,
            made.function_schema.json_schema,
            getattr(tool, "effect", ""),
            bool(getattr(tool, "needs_approval", False)),
        ]
        tools[name] = codec.fingerprint(shape, f"the tool {name}")
    schema = codec.fingerprint(codec.adapter(agent.output).json_schema(mode="serialization"), "the output type")
    agents = {name: definition_of(each) for name, each in agent.sub_agents.items()}
    made = Definition(agent.instructions, agent.model_names, agent.settings, tools, schema, agents)
    return dataclasses.replace(made, version=made.hashed())


async def _mind(agent: Agent[Any], pinned: Definition) -> Mind:
    loop = asyncio.get_running_loop()
    minds = agent.minds.setdefault(loop, {})
    if pinned.version not in minds:
        mind = minds[pinned.version] = _new_mind(agent, pinned)
        keeper = loop.create_task(_keep_open(mind), context=contextvars.Context())
        _keepers.add(keeper)
        keeper.add_done_callback(lambda done: (_keepers.discard(done), minds.pop(pinned.version, None)))
    mind = minds[pinned.version]
    await asyncio.shield(mind.opened)
    return mind


_keepers: set[asyncio.Task[None]] = set()


async def _keep_open(mind: Mind) -> None:
    """Keep the model's connections for all turns of this loop; they are closed when the loop's tasks are cancelled."""
    try:
        async with mind.model:
            mind.opened.set_result(None)
            await asyncio.get_running_loop().create_future()
    except Exception as error:
        if mind.opened.done():
            raise
        mind.opened.set_exception(error)


def _new_mind(agent: Agent[Any], pinned: Definition) -> Mind:
    retries = agent.tool_retries
    made = [
        durable(_as_pydantic(agent, name, retries), tool if isinstance(tool, Tool) else None)
        for name, tool in agent.tools.items()
    ]
    family = agent.family().values()
    may_ask = any(each.others or any(tool.needs_approval for tool in each.own_tools) for each in family)
    output: Any = [agent.output, DeferredToolRequests] if may_ask else agent.output
    settings = ModelSettings(**pinned.settings) if pinned.settings else None  # pyright: ignore[reportArgumentType]
    own = pydantic_ai.Agent(
        None,
        name=agent.name,
        deps_type=Sitting,
        output_type=output,
        instructions=pinned.instructions or None,
        model_settings=settings,
        retries={"tools": retries, "output": agent.output_retries},
        tools=made,
    )
    chain = models.usable(pinned.models, agent.model_objects)
    model = chain[0] if len(chain) == 1 else FallbackModel(chain[0], *chain[1:])
    return Mind(own, model, asyncio.get_running_loop().create_future())


def _as_pydantic(agent: Agent[Any], name: str, retries: int) -> pydantic_ai.Tool[Any]:
    """The tool of this name, of whatever kind."""
    if name in agent.sub_agents:
        return _sub_agent(agent.sub_agents[name], retries)
    return tool_of(agent.others[name]) if name in agent.others else _made(cast("Tool[..., Any]", agent.tools[name]))


def _made(tool: Tool[..., Any]) -> pydantic_ai.Tool[Any]:
    return pydantic_ai.Tool(
        tool.fn if tool.is_async else _in_thread(tool.fn),
        name=tool.name,
        description=tool.description or None,
        requires_approval=tool.needs_approval is True,
    )


def _in_thread(fn: Callable[..., Any]) -> Callable[..., Any]:
    """``fn`` in a thread of its own, with the same variables. One that hangs keeps neither the loop nor the process."""

    @functools.wraps(fn)
    async def call(*args: Any, **kwargs: Any) -> Any:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        variables = contextvars.copy_context()

        def settle(value: Any, error: BaseException | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)

        def work() -> None:
            value, failed = None, None
            try:
                value = variables.run(fn, *args, **kwargs)
            except BaseException as error:
                failed = error
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, value, failed)

        threading.Thread(target=work, name=f"tool {fn.__name__}", daemon=True).start()
        return await future

    return call


def _sub_agent(agent: Agent[Any], retries: int) -> pydantic_ai.Tool[Any]:
    """The agent as a tool of another: its turn is part of the caller's step, under the key of the call."""

    async def call(ctx: RunContext[Any], input: Any) -> Any:
        sitting: Sitting = ctx.deps
        call_id = ctx.tool_call_id or ""
        paused, verdicts = sitting.earlier.nested.get(call_id), sitting.verdicts_below(call_id)
        then = Continuation(paused, verdicts=verdicts) if paused is not None else None
        token = current_scope.set(CallScope(current_scope.get(), key_of(sitting, ctx)))
        try:
            turn = await take_turn(agent, input, sitting.pinned.agents[agent.name], then)
        finally:
            current_scope.reset(token)
        sitting.usages += turn.usage
        if turn.asked:
            below = [dataclasses.replace(each, call_id=f"{call_id}/{each.call_id}") for each in turn.asked]
            sitting.asked[call_id] = tuple(below)
            sitting.nested[call_id] = turn.paused or Paused()
            raise ApprovalRequired
        return turn.output

    call.__annotations__["input"] = agent.input
    description = agent.description or f"Ask {agent.name}."
    return pydantic_ai.Tool(call, takes_ctx=True, name=agent.name, description=description, max_retries=retries)
