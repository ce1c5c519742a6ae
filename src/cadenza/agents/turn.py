"""What one turn of an LLM agent takes and leaves: plain data, as the journal keeps it.

The definition is pinned once a run; a turn's outcome holds its own new messages and never those before it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from cadenza.agents.usage import Usage
from cadenza.durable import codec
from cadenza.durable.human import Answer, HumanTask

Place = tuple[str | int, ...]
"""The way to a value in nested data."""


@dataclass(frozen=True, slots=True)
class Definition:
    """What an agent was when a run first called it: the conversation goes on with it, whatever is deployed meanwhile.

    Attributes:
        models: names, in the order in which they are tried.
        settings: of the requests (temperature, max_tokens …).
        tools: each tool's name, and a hash of its schema and effect.
        output: a hash of the output's schema.
        agents: the definitions of the sub-agents among the tools.
        version: a hash of all the above.
    """

    instructions: str
    models: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    tools: dict[str, str] = field(default_factory=dict[str, str])
    output: str = ""
    agents: dict[str, Definition] = field(default_factory=dict[str, "Definition"])
    version: str = ""

    def hashed(self) -> str:
        """The version that this definition must have."""
        parts = [self.instructions, self.models, self.settings, self.tools, self.output]
        nested = {name: each.version for name, each in self.agents.items()}
        return codec.fingerprint([*parts, nested], "the definition of an agent")


@dataclass(frozen=True, slots=True)
class Asked:
    """A tool call that waits for a person.

    Attributes:
        call_id: the model's id of the call; a sub-agent's has its caller's before it, with ``/`` between.
        problem: why the last answer could not be taken.
    """

    call_id: str
    agent: str
    tool: str
    arguments: dict[str, Any]
    assignee: str = ""
    problem: str = ""

    def task(self) -> HumanTask:
        """The question: approve (with a ``value``, instead of these arguments), or reject with a comment."""
        details: dict[str, Any] = {"agent": self.agent, "tool": self.tool, "arguments": self.arguments}
        if self.problem:
            details["problem"] = self.problem
        title = f"May {self.agent} call {self.tool}?"
        return HumanTask(title, details=details, value=self.arguments, assignee=self.assignee)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a person said about a tool call. ``arguments`` are the edited ones, None if they stay."""

    approved: bool
    arguments: dict[str, Any] | None = None
    comment: str = ""

    @classmethod
    def of(cls, answer: Answer) -> Verdict:
        """An answer's value counts as edited arguments; whether they fit, the turn finds out."""
        value: Any = answer.value
        edited = cast("dict[str, Any]", value) if isinstance(value, dict) else None
        return cls(bool(answer), edited, answer.comment)


@dataclass(frozen=True, slots=True)
class Called:
    """A tool call that is for workflow code to make: of a person or a workflow, who may take days.

    Attributes:
        call_id: as of ``Asked``.
        agent: whose model calls.
        callee: the name of the agent that is called.
        input: what it is given, as plain data.
    """

    call_id: str
    agent: str
    callee: str
    input: Any


@dataclass(frozen=True, slots=True)
class Returned:
    """What came of it: ``returned`` as plain data, or why there is nothing."""

    returned: Any
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Paused:
    """Where a conversation stopped to ask: what is needed to go on, here and in sub-agents (by tool-call id)."""

    messages: list[Any] = field(default_factory=list[Any])
    nested: dict[str, Paused] = field(default_factory=dict[str, "Paused"])

    def then(self, later: Paused) -> Paused:
        """Both together; a sub-agent that ``later`` does not name has ended."""
        nested = {call_id: self.nested.get(call_id, Paused()).then(each) for call_id, each in later.nested.items()}
        return Paused([*self.messages, *later.messages], nested)


@dataclass(frozen=True, slots=True)
class Continuation:
    """What a turn continues.

    Attributes:
        paused: the conversation so far.
        asked: what people were asked, and who was called; empty if the turn begins with a new input.
        verdicts: what came of it, by call id.
        keep: whether the outcome keeps the messages of a turn that has ended, for a further one.
    """

    paused: Paused
    asked: tuple[Asked | Called, ...] = ()
    verdicts: dict[str, Verdict | Returned] = field(default_factory=dict[str, "Verdict | Returned"])
    keep: bool = False


@dataclass(frozen=True, slots=True)
class Turn:
    """The outcome of a turn.

    Attributes:
        output: as JSON; None while tool calls wait for a person or for another agent.
        asked: those calls; after an answer that could not be taken, only its call.
        paused: the messages of this turn, not of those before it; None if there are none, or nothing can follow.
        definition: the version of the definition it ran with.
        usage: of the agent, then of its sub-agents.
        elsewhere: what the journal holds already, and is left out here: where it belongs, the memo that has it, and
            where in the memo; see ``elsewhere``. Workflow code never sees it.
    """

    output: Any = None
    asked: tuple[Asked | Called, ...] = ()
    paused: Paused | None = None
    definition: str = ""
    usage: tuple[Usage, ...] = ()
    elsewhere: tuple[tuple[Place, str, Place], ...] = ()
