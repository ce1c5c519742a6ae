"""The journal's events: frozen structs in one tagged union (ADR 0002).

An *outcome* is delivered to workflow code, one at a time, in journal order. A *record* changes nothing in workflow
code; it tells the engine (and people) what was begun, promised or decided. A *terminal* event ends a generation.

Every event has ``at``: microseconds since 1970 in UTC, never decreasing within a run. Values are JSON bytes.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from cadenza.durable.failure import Failure

SCHEMA_VERSION = 1
Scalar = str | int | float | bool
"""The value of a search attribute."""


class Undo(msgspec.Struct, frozen=True, omit_defaults=True):
    """One entry of the undo stack: what to call, with arguments bound from the outcome."""

    path: str
    name: str
    arguments: tuple[bytes, ...]
    key: str = ""


class Letter(msgspec.Struct, frozen=True, omit_defaults=True):
    """A message that was received and not yet read by workflow code."""

    name: str
    value: bytes
    sender: str = ""


class Carried(msgspec.Struct, frozen=True, omit_defaults=True):
    """What ``continue_as_new`` takes along besides its input: unread messages, undo stack, children's ends, a
    cancellation."""

    letters: tuple[Letter, ...] = ()
    undo: tuple[Undo, ...] = ()
    children: tuple[ChildEnded, ...] = ()
    cancel: str | None = None


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    """What all events have."""

    at: int


class RunStarted(Event, frozen=True, kw_only=True, omit_defaults=True, tag="run_started"):
    """First of each generation."""

    run_id: str
    workflow: str
    input: bytes
    generation: int = 0
    schema: int = SCHEMA_VERSION
    flags: tuple[str, ...] = ()
    parent: str = ""
    parent_path: str = ""
    carried: Carried | None = None
    begun_as: str = ""
    """Of a fork: the run whose journal this was, until ``Forked``."""


# --- outcomes: delivered to workflow code -------------------------------------------------------------------------


class StepCompleted(Event, frozen=True, kw_only=True, omit_defaults=True, tag="step_completed"):
    path: str
    name: str
    input_hash: str
    value: bytes
    attempt: int = 1
    started_at: int = 0
    done_by: str = ""


class StepFailed(Event, frozen=True, kw_only=True, omit_defaults=True, tag="step_failed"):
    path: str
    name: str
    input_hash: str
    failure: Failure
    attempt: int = 1
    started_at: int = 0
    done_by: str = ""
    in_doubt: bool = False


class TimerFired(Event, frozen=True, kw_only=True, omit_defaults=True, tag="timer_fired"):
    """``fire_at`` is when it was due (0 in journals of older code): replay holds the code's timer against it."""

    path: str
    fire_at: int = 0


class MessageReceived(Event, frozen=True, kw_only=True, omit_defaults=True, tag="message_received"):
    name: str
    value: bytes
    sender: str = ""


class UpdateReceived(Event, frozen=True, kw_only=True, omit_defaults=True, tag="update_received"):
    """Somebody waits for the answer to this message, which is a record with the same ``id``."""

    id: str
    name: str
    value: bytes


class MessageSent(Event, frozen=True, kw_only=True, omit_defaults=True, tag="message_sent"):
    path: str
    to: str
    name: str
    failure: Failure | None = None
    input_hash: str = ""


class TaskAnswered(Event, frozen=True, kw_only=True, omit_defaults=True, tag="task_answered"):
    """``asked_at`` is that of the question: a doubt may be asked about again at the same path."""

    path: str
    answer: bytes
    asked_at: int = 0


class ChildEnded(Event, frozen=True, kw_only=True, omit_defaults=True, tag="child_ended"):
    path: str
    run_id: str
    status: Literal["completed", "failed", "cancelled"]
    value: bytes = b""
    failure: Failure | None = None


class CancelRequested(Event, frozen=True, kw_only=True, omit_defaults=True, tag="cancel_requested"):
    reason: str = ""


# --- records: for the engine and for people -----------------------------------------------------------------------


class StepIntent(Event, frozen=True, kw_only=True, omit_defaults=True, tag="step_intent"):
    """Committed before an irreversible effect, or an undo, may start. ``by`` is the owner that is about to do it."""

    path: str
    name: str
    input_hash: str
    attempt: int = 1
    by: str = ""


class AttemptFailed(Event, frozen=True, kw_only=True, omit_defaults=True, tag="attempt_failed"):
    """An attempt failed and another will follow at ``retry_at`` (microseconds since 1970)."""

    path: str
    name: str
    attempt: int
    failure: Failure
    retry_at: int
    input_hash: str = ""


class StepCancelled(Event, frozen=True, kw_only=True, omit_defaults=True, tag="step_cancelled"):
    path: str
    name: str


class OutcomeInDoubt(Event, frozen=True, kw_only=True, omit_defaults=True, tag="outcome_in_doubt"):
    """An irreversible effect may or may not have happened; a person is asked."""

    path: str
    name: str
    reason: str
    memo: str = ""


class DoubtResolved(Event, frozen=True, kw_only=True, omit_defaults=True, tag="doubt_resolved"):
    """Somebody found out. ``not_done`` allows another attempt; done and failed are followed by the outcome itself."""

    path: str
    decision: Literal["done", "not_done", "failed"]
    by: str = ""
    memo: str = ""


class MemoIntent(Event, frozen=True, kw_only=True, omit_defaults=True, tag="memo_intent"):
    path: str
    key: str
    input_hash: str = ""


class MemoSaved(Event, frozen=True, kw_only=True, omit_defaults=True, tag="memo_saved"):
    """A sub-result of the step at ``path``; it outlives attempts."""

    path: str
    key: str
    value: bytes
    effect: str = "idempotent"
    input_hash: str = ""


class MemosDiscarded(Event, frozen=True, kw_only=True, omit_defaults=True, tag="memos_discarded"):
    """The step asked for something else than what was saved; the tail from ``key`` on, all ``read``, is dropped."""

    path: str
    key: str


class TaskOpened(Event, frozen=True, kw_only=True, omit_defaults=True, tag="task_opened"):
    """``input_hash`` is of what an answer is about: the kind, the options and the value, and not the wording."""

    path: str
    task: bytes
    input_hash: str = ""


class ChildStarted(Event, frozen=True, kw_only=True, omit_defaults=True, tag="child_started"):
    path: str
    run_id: str
    workflow: str
    input_hash: str = ""


class CancelSent(Event, frozen=True, kw_only=True, omit_defaults=True, tag="cancel_sent"):
    path: str
    run_id: str


class Patched(Event, frozen=True, kw_only=True, omit_defaults=True, tag="patched"):
    id: str


class AttributesSet(Event, frozen=True, kw_only=True, omit_defaults=True, tag="attributes_set"):
    """Search attributes by name; None takes one away. They are kept in the same append beside the run's row."""

    path: str
    values: dict[str, Scalar | None]


class UpdateAccepted(Event, frozen=True, kw_only=True, omit_defaults=True, tag="update_accepted"):
    """Its validator has let the update pass; the handler has begun."""

    id: str


class UpdateAnswered(Event, frozen=True, kw_only=True, omit_defaults=True, tag="update_answered"):
    """What whoever sent the update is told; ``refused`` if it was not accepted."""

    id: str
    value: bytes = b""
    failure: Failure | None = None
    refused: bool = False


class Parked(Event, frozen=True, kw_only=True, omit_defaults=True, tag="parked"):
    """The run left memory; ``waiting`` are the open paths, ``wake_at`` the nearest timer (0: none)."""

    waiting: tuple[str, ...]
    wake_at: int = 0


class Forked(Event, frozen=True, kw_only=True, omit_defaults=True, tag="forked"):
    """Everything before was copied from ``origin``; from here on the journal is that of ``run_id``.

    ``through`` is the last event of ``origin`` up to which its order was copied, ``before`` the path whose outcome was
    left out, ``edited`` are paths whose outcomes were given instead, and ``how`` is fork, retry or reset.
    """

    run_id: str
    origin: str
    through: int
    before: str = ""
    edited: tuple[str, ...] = ()
    how: str = "fork"


# --- terminal -----------------------------------------------------------------------------------------------------


class RunCompleted(Event, frozen=True, kw_only=True, omit_defaults=True, tag="run_completed"):
    value: bytes


class RunFailed(Event, frozen=True, kw_only=True, omit_defaults=True, tag="run_failed"):
    failure: Failure


class RunCancelled(Event, frozen=True, kw_only=True, omit_defaults=True, tag="run_cancelled"):
    reason: str = ""
    failure: Failure | None = None


class RunContinued(Event, frozen=True, kw_only=True, omit_defaults=True, tag="run_continued"):
    """This generation ends; the next starts with ``input`` and what is carried."""

    input: bytes
    carried: Carried


Outcome = (
    StepCompleted
    | StepFailed
    | TimerFired
    | MessageReceived
    | UpdateReceived
    | MessageSent
    | TaskAnswered
    | ChildEnded
    | CancelRequested
)
Record = (
    StepIntent
    | AttemptFailed
    | StepCancelled
    | OutcomeInDoubt
    | DoubtResolved
    | MemoIntent
    | MemoSaved
    | MemosDiscarded
    | TaskOpened
    | ChildStarted
    | CancelSent
    | Patched
    | AttributesSet
    | UpdateAccepted
    | UpdateAnswered
    | Parked
    | Forked
)
Terminal = RunCompleted | RunFailed | RunCancelled | RunContinued
AnyEvent = RunStarted | Outcome | Record | Terminal

RECORDS = (
    StepIntent,
    AttemptFailed,
    StepCancelled,
    OutcomeInDoubt,
    DoubtResolved,
    MemoIntent,
    MemoSaved,
    MemosDiscarded,
    TaskOpened,
    ChildStarted,
    CancelSent,
    Patched,
    AttributesSet,
    UpdateAccepted,
    UpdateAnswered,
    Parked,
    Forked,
)
RECORD_TYPES = frozenset(RECORDS)
BEGINNINGS = frozenset({StepIntent, AttemptFailed, OutcomeInDoubt, MemoIntent, TaskOpened, ChildStarted})
"""Records of what was begun for workflow code and has to be brought to an end: replay checks that the code asks for
it."""
TERMINALS = (RunCompleted, RunFailed, RunCancelled, RunContinued)

PAYLOAD_FIELDS: dict[type[Any], str] = {
    RunStarted: "input",
    StepCompleted: "value",
    MessageReceived: "value",
    UpdateReceived: "value",
    UpdateAnswered: "value",
    MemoSaved: "value",
    ChildEnded: "value",
    RunCompleted: "value",
    RunContinued: "input",
}
"""Events whose payload may be large; over 16 kB a store keeps it once, by content hash."""


def payload_bytes(event: AnyEvent) -> int:
    """Size of an event's payload."""
    field = PAYLOAD_FIELDS.get(type(event))
    return len(getattr(event, field)) if field else 0


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(AnyEvent)


def stamped(event: Outcome, at: int) -> Outcome:
    """The same event at another time: a letter is journaled when it is taken, not when it was written."""
    return msgspec.structs.replace(event, at=at)


def encode_event(event: AnyEvent) -> bytes:
    """An event as MessagePack bytes; its values stay the JSON bytes that they are."""
    return _encoder.encode(event)


def decode_event(raw: bytes) -> AnyEvent:
    """The event that ``raw`` holds. Raises ``msgspec.ValidationError`` on bytes that are no event of this schema."""
    return _decoder.decode(raw)
