"""A world for one test: an engine on a store in memory, virtual time, scripts, faults, and a record of all calls."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

from cadenza.durable import commands, events
from cadenza.durable.define import WorkflowFunction
from cadenza.durable.human import Answer, HumanTask
from cadenza.engine.engine import Engine
from cadenza.engine.handle import RunHandle
from cadenza.engine.live import Live
from cadenza.engine.memory import MemoryStore
from cadenza.engine.steps import StepScope
from cadenza.engine.store import Append, Conflict, Filter, OpenTaskRow, RunRow, Store
from cadenza.engine.waiting import Ended
from cadenza.errors import UsageError
from cadenza.testing.clock import VirtualTime
from cadenza.testing.faults import Fault, When
from cadenza.testing.process import OPTIONS, ProcessStore, VirtualEngine
from cadenza.testing.script import Call, Script, step_name

T = TypeVar("T")
START = datetime(2026, 1, 1, tzinfo=UTC)


class Environment:
    """See ``environment``.

    Attributes:
        calls: every attempt of every step, in order.
        engine: the process that runs now; after ``crash`` and ``restart`` it is another one.
    """

    options = OPTIONS
    """What a RunHandle asks of its engine."""

    def __init__(self, store: Store, start: datetime, seed: int) -> None:
        self._store, self._seed = store, seed
        self.time = VirtualTime(start, lambda: self.engine.at_work, lambda: self.engine.process_store.pending > 0)
        self.calls: list[Call] = []
        self.lives = 0
        self.crash_at: Callable[[Append], str] = lambda _: ""
        self._scripts: dict[str, Script] = {}
        self._faults: list[Fault] = []
        self._problems: list[str] = []
        self._rebirth: asyncio.Task[None] | None = None
        self.engine: VirtualEngine

    async def open(self) -> None:
        """Start the first process."""
        self._store.open(asyncio.get_running_loop())
        await self._begin()

    async def close(self) -> None:
        if self._rebirth is not None:
            await asyncio.wait([self._rebirth])
        await self.engine.close(0.5)
        self._store.close()

    # --- time -----------------------------------------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        """Virtual time, in UTC."""
        return self.time.date

    async def advance(self, by: timedelta) -> None:
        """Let so much time pass, and everything happen that happens meanwhile."""
        await asyncio.sleep(by.total_seconds())
        await self.time.quiet()
        self.check()

    async def until(self, done: Callable[[], bool]) -> bool:
        """Let time pass until ``done()``; False if it is not, and nothing more will happen by itself.

        Raises AssertionError for a script that ran out, or a run that is not deterministic.
        """
        while True:
            await self.time.quiet()
            self.check()
            if self._rebirth is None and done():
                return True
            if not await self.time.pass_on() and self._rebirth is None:
                return False

    def check(self) -> None:
        """Raise AssertionError for what went wrong behind the workflow's back."""
        if self._problems:
            raise AssertionError("\n".join(dict.fromkeys(self._problems)))

    # --- runs -----------------------------------------------------------------------------------------------------

    async def start(
        self,
        workflow: WorkflowFunction[..., T] | str,
        input: Any = None,
        *,
        id: str = "",
        on_conflict: Conflict = "reject",
    ) -> RunHandle[T]:
        """Start a run; see Engine.start. The handle stays good when the process dies."""
        await self._alive()
        started = await self.engine.start(workflow, input, id=id, on_conflict=on_conflict)
        return RunHandle(cast("Engine", self), started.run_id, None if isinstance(workflow, str) else workflow)

    async def run(self, workflow: WorkflowFunction[..., T] | str, input: Any = None) -> T:
        """Start a run, and wait for its result; time passes as it must. See RunHandle.result for what it raises."""
        return await (await self.start(workflow, input)).result()

    def handle(self, run_id: str) -> RunHandle[Any]:
        """A handle to a run that is in the store."""
        return RunHandle(cast("Engine", self), self.find(run_id).run_id)

    def find(self, run_id: str) -> RunRow:
        return self.engine.find(run_id)

    def journal(self, run: RunHandle[Any] | str) -> list[events.AnyEvent]:
        """The events of a run."""
        return self.engine.journal(_id(run))

    def is_settled(self, row: RunRow) -> bool:
        return self.engine.is_settled(row)

    async def ended(self, run_id: str) -> Ended:
        """Wait until a run has ended or is blocked. Raises AssertionError if it waits for what does not come."""

        def over() -> bool:
            row = self.find(run_id)
            return row.ended or row.status == "blocked"

        if not await self.until(over):
            raise AssertionError(self._waits_for(run_id))
        row = self.find(run_id)
        return Ended(self._store.last_event(row.no)) if row.ended else Ended(None, row.detail)

    async def settled(self, run: RunHandle[Any] | str) -> RunRow:
        """Wait until a run has ended, is blocked, or waits for somebody, with or without a deadline."""

        def quiet() -> bool:
            row = self.find(_id(run))
            return self.engine.is_settled(row) or bool(self._questions(row.run_id))

        await self.until(quiet)
        return self.find(_id(run))

    async def asked(self, run: RunHandle[Any] | str) -> HumanTask:
        """Wait until a run, or a child of it, asks a person; returns the oldest question."""
        if not await self.until(lambda: bool(self._questions(_id(run)))):
            raise AssertionError(f"run {_id(run)} asks nobody: it is {self.find(_id(run)).shown_status}")
        return self._questions(_id(run))[0][1]

    async def answer(self, run: RunHandle[Any] | str, answer: Answer, path: str = "") -> None:
        """Answer the question at ``path``, or the oldest that the run, or a child of it, asks."""
        await self.asked(run)
        questions = [row for row, _ in self._questions(_id(run)) if path in ("", row.path)]
        if not questions:
            raise AssertionError(f"run {_id(run)} asks nothing at {path}")
        await self.engine.answer(questions[0].run_id, questions[0].path, answer)

    async def signal(self, run: RunHandle[Any] | str, name: str, value: Any = None, *, key: str = "") -> None:
        """Send a run a message; see Engine.signal."""
        await self._alive()
        await self.engine.signal(_id(run), name, value, key=key)

    async def cancel(self, run: RunHandle[Any] | str, reason: str = "") -> None:
        """Ask a run to stop, clean up and undo."""
        await self._alive()
        await self.engine.cancel(_id(run), reason)

    def _questions(self, run_id: str) -> list[tuple[OpenTaskRow, HumanTask]]:
        run_id = self.find(run_id).run_id
        return [each for each in self.engine.tasks() if each[0].run_id.startswith(run_id)]

    def _waits_for(self, run_id: str) -> str:
        row = self.find(run_id)
        questions = [f"{task.title!r} at {row.path}" for row, task in self._questions(run_id)]
        if questions:
            asked = ", ".join(questions)
            return f"run {run_id} waits for a person: {asked}. Answer with: await env.answer(run, Answer(…))"
        parked = [each.waiting for each in self.journal(run_id) if isinstance(each, events.Parked)]
        waiting = ", ".join(parked[-1]) if parked else "nothing that is known"
        children = [each.run_id for each in self.engine.runs(Filter(parent=row.run_id)) if not each.ended]
        beside = f" Its children {', '.join(children)} have not ended." if children else ""
        return (
            f"run {run_id} is {row.shown_status} and waits for {waiting}; nothing more will happen by itself.{beside}"
        )

    # --- scripts and faults ---------------------------------------------------------------------------------------

    def script(self, target: Any, answers: Iterable[Any] | Callable[..., Any]) -> Script:
        """Answer the calls of a step or an agent, in place of its own code.

        Args:
            target: the step, the agent, or its name.
            answers: one for each call in turn (an exception is raised), or a function of the call's arguments, sync or
                async.
        """
        name = step_name(target)
        made = self._scripts[name] = Script(name.rpartition(":")[2], answers)
        return made

    def fail(self, target: Any, *, nth: int = 1, error: BaseException | None = None, when: When = "before") -> None:
        """Let the ``nth`` attempt of a step raise ``error``, before or after it does its work."""
        self._faults.append(Fault(step_name(target), nth, when, "fail", error or RuntimeError("injected failure")))

    def time_out(self, target: Any, *, nth: int = 1, when: When = "before") -> None:
        """Let the ``nth`` attempt of a step take longer than its ``timeout_s`` (TimeoutError if it has none)."""
        self._faults.append(Fault(step_name(target), nth, when, "time_out"))

    def die(self, target: Any, *, nth: int = 1, when: When = "before") -> None:
        """Let the process die at the ``nth`` attempt of a step, before or after it does its work; another goes on."""
        self._faults.append(Fault(step_name(target), nth, when, "die"))

    def calls_of(self, target: Any) -> list[Call]:
        """The attempts of one step."""
        name = step_name(target)
        return [call for call in self.calls if call.name == name]

    def _stand_in(self, command: commands.RunStep, scope: StepScope) -> Callable[..., Any]:
        step = command.step
        call = Call(scope.key.partition(":")[0], command.path, step.name, step.label, scope.key, scope.attempt)
        self.calls.append(call)
        script = self._scripts.get(step.name)
        count = sum(each.name == step.name for each in self.calls)
        faults = [fault for fault in self._faults if fault.hits(step.name, count)]

        async def inject(when: When) -> None:
            for fault in faults:
                if fault.when == when:
                    await fault.strike(step.settings.timeout_s, self._strike_dead)

        async def stand_in(*args: Any, **kwargs: Any) -> Any:
            call.args, call.kwargs = args, kwargs
            await inject("before")
            value = self._answer(script, call) if script is not None else step.fn(*args, **kwargs)
            call.value = await value if inspect.isawaitable(value) else value
            call.done = True
            await inject("after")
            return call.value

        def in_thread(*args: Any, **kwargs: Any) -> Any:
            call.args, call.kwargs = args, kwargs
            call.value = step.fn(*args, **kwargs)
            call.done = True
            return call.value

        return stand_in if step.is_async or script is not None or faults else in_thread

    def _answer(self, script: Script, call: Call) -> Any:
        try:
            return script.answer(call)
        except AssertionError as error:
            self._problems.append(str(error))
            raise

    # --- processes ------------------------------------------------------------------------------------------------

    async def crash(self) -> None:
        """Kill the process, whatever it does, and let another go on from the store."""
        await self._alive()
        self._strike_dead()
        await self._alive()

    async def restart(self) -> None:
        """Stop the process in order and start another: with the code as it is registered now, as by a deploy."""
        await self._alive()
        await self.engine.close()
        await self._begin()

    def _fate(self, append: Append) -> str:
        return self.crash_at(append)

    async def _begin(self) -> None:
        self.lives += 1
        store = ProcessStore(self._store, self._fate, self._strike_dead)
        self.engine = VirtualEngine(store, self.time, f"{self._seed}:{self.lives}", self._stand_in)
        await self.engine.__aenter__()
        self.engine.observe(self._observe)

    def _strike_dead(self) -> None:
        self.engine.process_store.dead = True
        if self._rebirth is None:
            self._rebirth = asyncio.get_running_loop().create_task(self._be_reborn())

    async def _be_reborn(self) -> None:
        try:
            await self.engine.die(self._store, self.time)
            await self._begin()
        finally:
            self._rebirth = None

    async def _alive(self) -> None:
        if self._rebirth is not None:
            await asyncio.wait([self._rebirth])

    def _observe(self, live: Live) -> None:
        if live.kind == "run" and live.state == "warning":
            self._problems.append(f"run {live.run_id} is not deterministic: {live.detail}")


@asynccontextmanager
async def environment(
    *, start: datetime = START, seed: int = 0, store: str | Path = ":memory:"
) -> AsyncGenerator[Environment]:
    """A world for a test: runs go on in it in milliseconds, whatever they wait for.

    Time is virtual: when nothing else can happen, the clock jumps to the next timer. It is the time of the whole event
    loop, so a step that sleeps for a minute takes none. Real work (threads, sockets) is waited for.

    Args:
        start: what the clock shows first.
        seed: decides the runs' ids, and the jitter of retries.
        store: a SQLite file in place of memory.

    Raises:
        AssertionError: at the end, if a script ran out or a run was not deterministic.
        UsageError: the event loop is not asyncio's own.
    """
    if str(store) == ":memory:":
        made: Store = MemoryStore()
    else:
        from cadenza.engine.sqlite.store import SQLiteStore

        made = SQLiteStore(store)
    env = Environment(made, start, seed)
    with env.time:
        await env.open()
        try:
            yield env
            env.check()
        finally:
            await env.close()


def run_test(
    workflow: WorkflowFunction[..., T],
    input: Any = None,
    *,
    script: dict[Any, Any] | None = None,
    setup: Callable[[Environment], Awaitable[None] | None] | None = None,
    start: datetime = START,
) -> T:
    """Run a workflow to its end in an environment of its own, and return its result.

    Args:
        script: answers by step or agent; see Environment.script.
        setup: called with the environment first.
    """

    async def main() -> T:
        async with environment(start=start) as env:
            await prepare(env, script, setup)
            return await env.run(workflow, input)

    return play(main())


async def prepare(
    env: Environment,
    script: dict[Any, Any] | None,
    setup: Callable[[Environment], Awaitable[None] | None] | None,
) -> None:
    """Give an environment its scripts, and whatever else ``setup`` gives it."""
    for target, answers in (script or {}).items():
        env.script(target, answers)
    if setup is not None and (waiting := setup(env)) is not None:
        await waiting


def play(main: Coroutine[Any, Any, T]) -> T:
    """``asyncio.run``. Raises UsageError where a loop runs already."""
    with contextlib.suppress(RuntimeError):
        asyncio.get_running_loop()
        main.close()
        raise UsageError("an event loop runs here already: use async with environment() as env: await env.run(…)")
    return asyncio.run(main)


def _id(run: RunHandle[Any] | str) -> str:
    return run if isinstance(run, str) else run.run_id
