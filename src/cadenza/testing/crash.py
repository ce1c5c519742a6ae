"""Crashes everywhere: a workflow is run once, and again for every place in its journal with a crash there.

Invariants that are checked, whatever the crash:
    - The run ends as it did without one.
    - The same effects happen, by idempotency key; what is irreversible, once.
    - What had its outcome on disk does not run again.
    - Replay does what was done.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import to_jsonable_python

from cadenza.durable import events
from cadenza.durable.define import WorkflowFunction
from cadenza.durable.human import Answer, HumanTask
from cadenza.engine.handle import RunHandle
from cadenza.engine.store import Append, Filter, OpenTaskRow
from cadenza.errors import CadenzaError, UsageError
from cadenza.testing.environment import Environment
from cadenza.testing.play import environment, play, prepare
from cadenza.testing.script import Call

ANSWERS_MAX = 10_000
ALL_RUNS = Filter(limit=1_000_000)


@dataclass(frozen=True)
class CrashReport:
    """What ``crash_everywhere`` did.

    Attributes:
        events: of the journals, without a crash.
        crashes: how many there were: before and after each append to a journal.
        repeated: calls that were made again, in all of them: their outcome was not on disk yet.
        in_doubt: irreversible calls of which somebody had to say whether they had happened.
    """

    events: int
    crashes: int
    repeated: int
    in_doubt: int

    def __str__(self) -> str:
        return (
            f"{self.events} events, {self.crashes} crashes: every end the same; {self.repeated} unfinished calls made "
            f"again, {self.in_doubt} irreversible ones asked after"
        )


@dataclass(frozen=True)
class Crash:
    """A crash at one append: before it reaches the disk ("lost"), or after ("kept")."""

    number: int
    fate: str
    what: str

    def __str__(self) -> str:
        return f"crash {'before' if self.fate == 'lost' else 'after'} {self.what} was written"


@dataclass
class Life:
    """How a run went. ``calls`` and ``memos`` are those of all its processes."""

    appends: list[str] = field(default_factory=list[str])
    events: int = 0
    crashed: bool = False
    calls_before: int = 0
    ending: str = ""
    calls: list[Call] = field(default_factory=list[Call])
    memos: list[Call] = field(default_factory=list[Call])
    on_disk: set[str] = field(default_factory=set[str])
    in_doubt: int = 0

    @property
    def done(self) -> Counter[str]:
        """How often each effect happened, by key."""
        return Counter(call.key for call in [*self.calls, *self.memos] if call.done)


@dataclass(frozen=True)
class World:
    """What is around the run in each of its lives."""

    workflow: WorkflowFunction[..., Any]
    input: Any
    script: dict[Any, Any] | None
    setup: Callable[[Environment], Awaitable[None] | None] | None
    answer: Callable[[HumanTask], Answer] | None
    messages: Sequence[tuple[str, Any]]


def crash_everywhere(
    workflow: WorkflowFunction[..., Any],
    input: Any = None,
    *,
    script: dict[Any, Any] | None = None,
    setup: Callable[[Environment], Awaitable[None] | None] | None = None,
    answer: Callable[[HumanTask], Answer] | None = None,
    messages: Sequence[tuple[str, Any]] = (),
    crashes_max: int = 2_000,
) -> CrashReport:
    """Run a workflow once; then again for each append to a journal, with the process dying before and after it.

    Each life has an environment of its own: store, virtual time, scripts. The run and its children are watched.

    Args:
        script, setup: see ``run_test``; called for each life anew.
        answer: answers what the run asks people; by default nobody does, and deadlines pass. Whether an irreversible
            call that is in doubt has happened is answered truthfully by the kit.
        messages: names and values of messages that the run is sent when it starts.
        crashes_max: if there would be more, so many are spread evenly over the journal.

    Returns:
        Counts of what was done.

    Raises:
        AssertionError: names the event at which a crash made a difference, and the difference.
    """
    world = World(workflow, input, script, setup, answer, messages)
    quiet = play(_live(world, None))
    crashes = [Crash(n, fate, what) for n, what in enumerate(quiet.appends, 1) for fate in ("lost", "kept")]
    step = max(1, -(-len(crashes) // crashes_max))
    repeated = in_doubt = made = 0
    for crash in crashes[::step]:
        try:
            life = play(_live(world, crash))
        except AssertionError as error:
            raise AssertionError(f"{crash}: {error}") from error
        _compare(quiet, life, crash)
        made += life.crashed
        repeated += len(life.calls) - len(quiet.calls)
        in_doubt += life.in_doubt
    return CrashReport(quiet.events, made, repeated, in_doubt)


# --- one life ---------------------------------------------------------------------------------------------------------


async def _live(world: World, crash: Crash | None) -> Life:
    life = Life()
    async with environment() as env:
        await prepare(env, world.script, world.setup)
        first_owner = env.engine.owner

        def crash_at(append: Append) -> str:
            life.appends.append(_named(append))
            if crash is None or life.crashed or len(life.appends) < crash.number:
                return ""
            life.crashed, life.calls_before = True, len(env.calls)
            return crash.fate

        env.crash_at = crash_at
        run = await env.start(world.workflow, world.input)
        for number, (name, value) in enumerate(world.messages):
            with contextlib.suppress(UsageError):  # the run has ended
                await env.signal(run, name, value, key=f"message {number}")
        await _to_the_end(env, run, world, life)
        life.ending = _ending(env, run)
        life.events = sum(len(env.journal(row.run_id)) for row in env.engine.runs(ALL_RUNS))
        life.calls, life.memos = env.calls, env.memos
        life.on_disk = _on_disk(env, first_owner) if life.crashed else set()
    return life


async def _to_the_end(env: Environment, run: RunHandle[Any], world: World, life: Life) -> None:
    """Answer what is asked, until nothing more happens."""

    def questions() -> list[tuple[OpenTaskRow, HumanTask]]:
        open_now = env.engine.tasks()
        return [each for each in open_now if each[1].kind == "resolve" or world.answer is not None]

    def at_rest() -> bool:
        return bool(questions()) or all(row.ended or row.status == "blocked" for row in env.engine.runs(ALL_RUNS))

    for _ in range(ANSWERS_MAX):
        await env.until(at_rest)
        asked = questions()
        if not asked:
            return
        for row, task in asked:
            if task.kind == "resolve":
                life.in_doubt += 1
                answer = _truth(env, task)
            else:
                assert world.answer is not None
                answer = world.answer(task)
            with contextlib.suppress(CadenzaError):  # withdrawn meanwhile
                await env.engine.answer(row.run_id, row.path, answer, asked_at=row.asked_at)
    raise AssertionError(f"run {run.run_id} has asked {ANSWERS_MAX:,} times and goes on asking")


def _truth(env: Environment, task: HumanTask) -> Answer:
    """Whether a call that is in doubt has happened: the kit was there."""
    details = task.details
    key = f"{details['key']}/{details['memo']}" if details["memo"] else details["key"]
    happened = [call for call in [*env.calls, *env.memos] if call.key == key and call.done]
    if happened:
        return Answer(choice="done", value=to_jsonable_python(happened[-1].value), by="cadenza.testing")
    return Answer(choice="not_done", by="cadenza.testing")


def _ending(env: Environment, run: RunHandle[Any]) -> str:
    row = env.find(run.run_id)
    last = env.journal(run)[-1]
    match last:
        case events.RunCompleted(value=value):
            return f"completed with {value.decode()}"
        case events.RunFailed(failure=failure):
            return f"failed with {failure}"
        case _:
            return f"{row.shown_status} {row.detail}".rstrip()


def _on_disk(env: Environment, owner: str) -> set[str]:
    """Keys of the steps whose outcome the process that died has written."""
    found: set[str] = set()
    for row in env.engine.runs(ALL_RUNS):
        generation = 0
        for event in env.journal(row.run_id):
            if isinstance(event, events.RunStarted):
                generation = event.generation
            elif isinstance(event, events.StepCompleted | events.StepFailed) and event.done_by == owner:
                found.add(f"{row.run_id}:{generation}:{event.path}")
    return found


def _named(append: Append) -> str:
    names = [f"{type(event).__name__} {getattr(event, 'path', '')}".rstrip() for event in append.events]
    if not names and append.change is not None:
        names = [f"the status {append.change.status}"]
    return " + ".join(names) or "an append without events"


# --- comparing --------------------------------------------------------------------------------------------------------


def _compare(quiet: Life, life: Life, crash: Crash) -> None:
    """Raise AssertionError if a life with a crash is not like the one without."""
    if life.ending != quiet.ending:
        raise AssertionError(f"{crash}: the run {_clip(life.ending)}; without a crash it {_clip(quiet.ending)}")
    names = {call.key: call for call in [*quiet.calls, *quiet.memos, *life.calls, *life.memos]}
    done, expected = life.done, quiet.done
    for key in sorted(expected.keys() - done.keys()):
        raise AssertionError(
            f"{crash}: {names[key].label} at {names[key].path} did not happen; without a crash it does"
        )
    for key in sorted(done.keys() - expected.keys()):
        raise AssertionError(f"{crash}: {names[key].label} at {names[key].path} happened; without a crash it does not")
    for key, count in done.items():
        if names[key].effect == "irreversible" and count > expected[key]:
            where = f"{names[key].label} at {names[key].path}"
            raise AssertionError(f"{crash}: the irreversible {where} happened {count} times, under the key {key}")
    for call in life.calls[life.calls_before :]:
        if call.key in life.on_disk:
            raise AssertionError(f"{crash}: {call.label} at {call.path} had ended, and was called again")


def _clip(text: str) -> str:
    return text if len(text) <= 500 else text[:499] + "…"
