"""A world for one test: an engine on a store in memory, virtual time, scripts, faults, and a record of all calls."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

from cadenza.durable import commands, events
from cadenza.durable.define import WorkflowFunction
from cadenza.durable.human import Answer, HumanTask
from cadenza.engine.engine import Engine
from cadenza.engine.handle import RunHandle
from cadenza.engine.live import Live
from cadenza.engine.steps import StepScope
from cadenza.engine.store import Append, Conflict, Filter, OpenTaskRow, RunRow, Store
from cadenza.engine.waiting import Ended
from cadenza.errors import UsageError
from cadenza.testing.clock import VirtualTime
from cadenza.testing.faults import Fault, When
from cadenza.testing.process import OPTIONS, ProcessStore, VirtualEngine
from cadenza.testing.script import Call, Script, as_outcome, scripted_model, step_name

if TYPE_CHECKING:
    from cadenza.testing.model import ScriptedModel

T = TypeVar("T")


class Environment:
    """See ``environment``.

    Attributes:
        calls: every attempt of every step, in order.
        memos: every sub-result that was made by calling its function (``step.memo``, tools, requests to models).
        engine: the process that runs now; after ``crash`` and ``restart`` it is another one.
    """

    options = OPTIONS
    """What a RunHandle asks of its engine."""

    def __init__(self, store: Store, start: datetime, seed: int) -> None:
        self._store, self._seed = store, seed
        self.time = VirtualTime(start, lambda: self.engine.at_work, self._held)
        self.calls: list[Call] = []
        self.memos: list[Call] = []
        self.lives = 0
        self.crash_at: Callable[[Append], str] = lambda _: ""
        self._scripts: dict[str, Script] = {}
        self._faults: list[Fault] = []
        self._problems: list[str] = []
        self._undo: list[Callable[[], None]] = []
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
        for restore in reversed(self._undo):
            restore()

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

    def _held(self) -> bool:
        """Whether a commit is under way, or the thread of an agent's tool."""
        return self.engine.process_store.pending > 0 or (
            self.engine.at_work and any(each.name.startswith("tool ") for each in threading.enumerate())
        )

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

    def runs(self, filter: Filter | None = None) -> list[RunRow]:
        """Runs, newest first."""
        return self.engine.runs(filter)

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
            target: the step, the agent, or its name. An LLM agent's script is of whole turns; for the single answers of
                its model see ``model``.
            answers: one for each call in turn (an exception is raised), or a function of the call's arguments, sync or
                async.
        """
        name = step_name(target)
        made = self._scripts[name] = Script(name.rpartition(":")[2], answers)
        return made

    def model(self, agent: Any, answers: Iterable[Any]) -> ScriptedModel:
        """Let a scripted model answer an LLM agent's requests, in place of its own models; see ``scripted_model``."""
        from cadenza.agents.agent import find_agent
        from cadenza.agents.llm import Agent

        found: Any = find_agent(agent) if isinstance(agent, str) else agent
        if not isinstance(found, Agent):
            raise UsageError(f"{agent!r} is no LLM agent: it has no model. Use env.script")
        llm = cast("Agent[Any]", found)
        made = scripted_model(answers, name=llm.name, on_problem=self._problems.append)
        before = dict(llm.model_objects)
        llm.model_objects.update(dict.fromkeys(llm.model_names, made))
        llm.minds.clear()

        def restore() -> None:
            llm.model_objects.clear()
            llm.model_objects.update(before)
            llm.minds.clear()

        self._undo.append(restore)
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
        call = Call(
            scope.key.partition(":")[0],
            command.path,
            step.name,
            step.label,
            scope.key,
            scope.attempt,
            step.settings.effect,
        )
        self.calls.append(call)
        self._note_memos(scope, call)
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
            value = await value if inspect.isawaitable(value) else value
            call.value = as_outcome(step, value) if script is not None else value
            call.done = True
            await inject("after")
            return call.value

        def in_thread(*args: Any, **kwargs: Any) -> Any:
            call.args, call.kwargs = args, kwargs
            call.value = step.fn(*args, **kwargs)
            call.done = True
            return call.value

        return stand_in if step.is_async or script is not None or faults else in_thread

    def _note_memos(self, scope: StepScope, call: Call) -> None:
        memo = scope.memo

        async def noted(key: str, fn: Callable[[], Any], effect: str, input: Any) -> Any:
            made = Call(
                call.run_id, call.path, call.name, f"{call.label} {key}", f"{call.key}/{key}", call.attempt, effect
            )

            async def act() -> Any:
                self.memos.append(made)
                value = fn()
                made.value = await value if inspect.isawaitable(value) else value
                made.done = True
                return made.value

            return await memo(key, act, effect, input)

        scope.memo = noted

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


def _id(run: RunHandle[Any] | str) -> str:
    return run if isinstance(run, str) else run.run_id
