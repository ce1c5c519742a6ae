"""What workflow code asks for: the machine's output, the engine's input. Never stored; replay makes them again."""

from __future__ import annotations

from typing import Any

import msgspec

from cadenza.durable.define import StepFunction
from cadenza.durable.events import Scalar
from cadenza.durable.failure import Failure
from cadenza.durable.human import HumanTask


class RunStep(msgspec.Struct, frozen=True):
    """Run a registered function. ``undo_of`` is the key of the call that this one undoes."""

    path: str
    step: StepFunction[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    input_hash: str
    undo_of: str = ""

    @property
    def name(self) -> str:
        return self.step.name


class StartTimer(msgspec.Struct, frozen=True):
    """Fire at ``fire_at``, microseconds since 1970."""

    path: str
    fire_at: int
    name: str = "timer"


class AwaitMessage(msgspec.Struct, frozen=True):
    """Workflow code waits for a message of this name."""

    path: str
    name: str


class SendMessage(msgspec.Struct, frozen=True):
    """Put a message in another run's inbox."""

    path: str
    to: str
    name: str
    value: bytes
    input_hash: str


class OpenTask(msgspec.Struct, frozen=True):
    """Ask a person."""

    path: str
    task: HumanTask
    name: str
    input_hash: str = ""


class StartChild(msgspec.Struct, frozen=True):
    """Start a child run; ``awaited`` children are cancelled with their parent."""

    path: str
    name: str
    input: bytes
    input_hash: str
    run_id: str
    awaited: bool = True


class AwaitChild(msgspec.Struct, frozen=True):
    """Wait for a child that an earlier generation has started."""

    path: str
    run_id: str


class Cancel(msgspec.Struct, frozen=True):
    """Workflow code no longer waits for what is at ``path``."""

    path: str


class RecordPatch(msgspec.Struct, frozen=True):
    """Workflow code took the new side of ``ctx.patched(id)``."""

    id: str


class SetAttributes(msgspec.Struct, frozen=True):
    """Keep these search attributes beside the run."""

    path: str
    values: dict[str, Scalar | None]


class AcceptUpdate(msgspec.Struct, frozen=True):
    """An update was let pass, and its handler has begun."""

    path: str
    id: str


class AnswerUpdate(msgspec.Struct, frozen=True):
    """Tell whoever sent an update what came of it."""

    path: str
    id: str
    value: bytes = b""
    failure: Failure | None = None
    refused: bool = False


class Completed(msgspec.Struct, frozen=True):
    value: bytes


class Failed(msgspec.Struct, frozen=True):
    failure: Failure


class Cancelled(msgspec.Struct, frozen=True):
    reason: str
    failure: Failure | None = None


class Continued(msgspec.Struct, frozen=True):
    input: bytes


class Blocked(msgspec.Struct, frozen=True):
    """The code is at fault; nothing is journaled."""

    detail: str
    error: Exception


Ending = Completed | Failed | Cancelled | Continued | Blocked


class Finish(msgspec.Struct, frozen=True):
    """Workflow code has ended, and nothing irreversible is in flight."""

    ending: Ending


Opened = RunStep | StartTimer | AwaitMessage | SendMessage | OpenTask | StartChild | AwaitChild
Said = RecordPatch | SetAttributes | AcceptUpdate | AnswerUpdate
Command = Opened | Cancel | Said | Finish


def signature_of(command: Command) -> str:
    """What a command was, in a form that two replays can compare."""
    match command:
        case RunStep(path=path, name=name, input_hash=input_hash):
            return f"step {path} {name} {input_hash}"
        case StartTimer(path=path, fire_at=fire_at):
            return f"timer {path} {fire_at}"
        case SendMessage(path=path, to=to, name=name, input_hash=input_hash):
            return f"send {path} {to} {name} {input_hash}"
        case StartChild(path=path, name=name, input_hash=input_hash):
            return f"child {path} {name} {input_hash}"
        case Finish(ending=ending):
            return f"finish {type(ending).__name__}"
        case RecordPatch(id=id):
            return f"recordpatch {id}"
        case _:
            return f"{type(command).__name__.lower()} {command.path}"
