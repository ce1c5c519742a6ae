"""Cadenza orchestrates AI agents the way a database runs transactions.

from cadenza import Context, step, workflow, run
"""

import importlib as _importlib
import typing as _typing

from cadenza.agents.agent import AnyAgent
from cadenza.agents.card import Card, Skill
from cadenza.agents.function import FunctionAgent, agent
from cadenza.durable.context import ChildHandle, Context
from cadenza.durable.define import Retry, step, workflow
from cadenza.durable.failed_run import FailedRun
from cadenza.durable.human import Answer, HumanTask
from cadenza.durable.scope import Done, InDoubt, NotDone
from cadenza.engine.bulk import on_all
from cadenza.engine.engine import Engine
from cadenza.engine.facade import run
from cadenza.engine.filter import Condition, Filter
from cadenza.engine.handle import RunHandle
from cadenza.engine.live import Live
from cadenza.engine.options import Alerts, EngineOptions, Retention
from cadenza.errors import (
    Abstained,
    AgentError,
    CadenzaError,
    ChildError,
    CircuitOpen,
    CompensationError,
    DuplicateRun,
    Exhausted,
    InboxFull,
    InputInvalid,
    ModelUnavailable,
    NoCandidate,
    OutcomeUnknown,
    OutputRejected,
    Overloaded,
    PeerError,
    PeerFailed,
    PeerRefused,
    PeerUnavailable,
    RunBlocked,
    RunCancelled,
    RunFailed,
    StepError,
    StepTimeout,
    StoreError,
    UnknownName,
    UpdateFailed,
    UpdateRefused,
    UsageError,
)
from cadenza.patterns.concurrent import concurrent
from cadenza.patterns.map_reduce import map_reduce
from cadenza.patterns.sequential import sequential
from cadenza.routing.late import begin as _begin
from cadenza.routing.need import Need

if _typing.TYPE_CHECKING:
    from cadenza.agents.conversation import Conversation
    from cadenza.agents.credential import ApiKey, Basic, Bearer
    from cadenza.agents.http import HttpAgent
    from cadenza.agents.human import HumanAgent
    from cadenza.agents.llm import Agent
    from cadenza.agents.process import ProcessAgent
    from cadenza.agents.tools import tool
    from cadenza.agents.workflow_agent import as_agent
    from cadenza.routing.cascade import cascade
    from cadenza.routing.degraded import Degraded, degraded
    from cadenza.routing.model_router import model_router
    from cadenza.routing.policy import Policy
    from cadenza.routing.registry import registry
    from cadenza.routing.score import scorer

__version__ = "0.1.0"
_begin()
_LATE = {
    "Conversation": "agents.conversation",
    "ApiKey": "agents.credential",
    "Basic": "agents.credential",
    "Bearer": "agents.credential",
    "HttpAgent": "agents.http",
    "HumanAgent": "agents.human",
    "Agent": "agents.llm",
    "ProcessAgent": "agents.process",
    "tool": "agents.tools",
    "as_agent": "agents.workflow_agent",
    "cascade": "routing.cascade",
    "Degraded": "routing.degraded",
    "degraded": "routing.degraded",
    "model_router": "routing.model_router",
    "Policy": "routing.policy",
    "registry": "routing.registry",
    "scorer": "routing.score",
}
"""Names whose modules are imported when somebody asks for them: they take as long as all others together."""

__all__ = [
    "Abstained",
    "Agent",
    "AgentError",
    "Alerts",
    "Answer",
    "AnyAgent",
    "ApiKey",
    "Basic",
    "Bearer",
    "CadenzaError",
    "Card",
    "ChildError",
    "ChildHandle",
    "CircuitOpen",
    "CompensationError",
    "Condition",
    "Context",
    "Conversation",
    "Degraded",
    "Done",
    "DuplicateRun",
    "Engine",
    "EngineOptions",
    "Exhausted",
    "FailedRun",
    "Filter",
    "FunctionAgent",
    "HttpAgent",
    "HumanAgent",
    "HumanTask",
    "InDoubt",
    "InboxFull",
    "InputInvalid",
    "Live",
    "ModelUnavailable",
    "Need",
    "NoCandidate",
    "NotDone",
    "OutcomeUnknown",
    "OutputRejected",
    "Overloaded",
    "PeerError",
    "PeerFailed",
    "PeerRefused",
    "PeerUnavailable",
    "Policy",
    "ProcessAgent",
    "Retention",
    "Retry",
    "RunBlocked",
    "RunCancelled",
    "RunFailed",
    "RunHandle",
    "Skill",
    "StepError",
    "StepTimeout",
    "StoreError",
    "UnknownName",
    "UpdateFailed",
    "UpdateRefused",
    "UsageError",
    "agent",
    "as_agent",
    "cascade",
    "concurrent",
    "degraded",
    "map_reduce",
    "model_router",
    "on_all",
    "registry",
    "run",
    "scorer",
    "sequential",
    "step",
    "tool",
    "workflow",
]


def __getattr__(name: str) -> _typing.Any:
    if name not in _LATE:
        raise AttributeError(f"module 'cadenza' has no attribute {name!r}")
    found = globals()[name] = getattr(_importlib.import_module(f"{__name__}.{_LATE[name]}"), name)
    return found
