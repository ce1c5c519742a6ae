"""Scripts: what a step or an agent answers in a test, in place of its own code. And the calls that were made."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from cadenza.agents.agent import agents
from cadenza.durable import codec
from cadenza.durable.define import StepFunction, steps
from cadenza.errors import UnknownName, UsageError

if TYPE_CHECKING:
    from cadenza.testing.model import ScriptedModel

AGENT = "agent:"
"""What the names of LLM agents' steps begin with."""


@dataclass
class Call:
    """One attempt of a step, or of a sub-result of it.

    Attributes:
        label: the step's, with the sub-result's key after it if it is one.
        key: the idempotency key: the same for every attempt of a call, also after a crash.
        done: whether the function returned; ``value`` is what it returned.
    """

    run_id: str
    path: str
    name: str
    label: str
    key: str
    attempt: int
    effect: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict[str, Any])
    done: bool = False
    value: Any = None


class Script:
    """What is answered: a list, one item a call (an exception is raised), or a function of the call's arguments.

    A call that is made again after a crash gets the answer that it had before. ``calls`` are those that were answered.
    """

    def __init__(self, name: str, answers: Iterable[Any] | Callable[..., Any]) -> None:
        self.name = name
        self._function = answers if callable(answers) else None
        self._answers = [] if callable(answers) else list(answers)
        self._given: dict[tuple[str, int], Any] = {}
        self.calls: list[Call] = []

    @property
    def left(self) -> int:
        """How many answers nobody has asked for."""
        return len(self._answers) - len(self._given)

    def answer(self, call: Call) -> Any:
        """Raises AssertionError once the script has run out; what the script raises."""
        self.calls.append(call)
        if self._function is not None:
            return self._function(*call.args, **call.kwargs)
        key = call.key, call.attempt
        if key not in self._given:
            if not self.left:
                raise AssertionError(
                    f"the script of {self.name!r} has run out: call {len(self._given) + 1} ({call.path}) finds "
                    f"{len(self._answers)} answers used. Its input: {shown(call)}"
                )
            self._given[key] = self._answers[len(self._given)]
        answer: Any = self._given[key]
        if isinstance(answer, BaseException) or (isinstance(answer, type) and issubclass(answer, BaseException)):
            raise answer
        return cast("Any", answer)


def shown(call: Call) -> str:
    """A call's arguments, for a message."""
    parts = [*map(repr, call.args), *(f"{name}={value!r}" for name, value in call.kwargs.items())]
    text = ", ".join(parts)
    return text if len(text) <= 500 else text[:499] + "…"


def step_name(target: Any) -> str:
    """The full name of the step that ``target`` is or names: a step, an agent, a label or a full name.

    Raises:
        UnknownName: there is none, or several have this label.
        UsageError: an agent that is no step: a person, a workflow.
    """
    if isinstance(target, str) and target in agents:
        target = agents[target]
    if not isinstance(target, str | StepFunction):
        name = f"{AGENT}{target.name}"
        if not hasattr(target, "step") and name not in steps:
            raise UsageError(
                f"agent {target.name!r} has no step that could be scripted. Answer a person's questions with "
                "env.answer, and script what a workflow calls"
            )
        target = getattr(target, "step", name)
    if isinstance(target, str):
        found = [target] if target in steps else [name for name, each in steps.items() if each.label == target]
        if len(found) == 1:
            return found[0]
        hint = "Several have this label: give the full name." if found else "Import the module that defines it."
        raise UnknownName("step or agent", target, found or [*steps, *agents], hint)
    return str(target.name)


def as_outcome(step: StepFunction[..., Any], answer: Any) -> Any:
    """A scripted answer as the step's result: an LLM agent's is a turn with this output."""
    if not step.name.startswith(AGENT):
        return answer
    from cadenza.agents.turn import Turn

    if isinstance(answer, Turn):
        return answer
    what = f"the scripted answer of {step.label}"
    return Turn(output=codec.decode(codec.encode(answer, Any, what), Any, what))


def scripted_model(
    answers: Iterable[Any], *, name: str = "model", on_problem: Callable[[str], None] = lambda _: None
) -> ScriptedModel:
    """A model that gives these answers, one a request.

    Args:
        answers: text; ``call("tool", x=1)``, or a list of them; any other value is the agent's output; an exception is
            raised; a function of the messages returns one of these. A request that is made again after a crash gets the
            answer that it had before.
        name: for messages.
        on_problem: told what was not foreseen, besides the AssertionError that the agent meets.
    """
    from cadenza.testing.model import ScriptedModel  # heavy

    return ScriptedModel(answers, name, on_problem)
