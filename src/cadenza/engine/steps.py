"""One attempt of a step on the real loop: arguments, time limits, threads, sub-results, and the outcome as bytes."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from cadenza.durable import codec, commands, events
from cadenza.durable.ledger import Ledger
from cadenza.durable.machine import Machine
from cadenza.durable.scope import current_scope
from cadenza.engine.catalogue import Catalogue, current_catalogue
from cadenza.engine.failpoint import failpoint
from cadenza.errors import Nondeterminism, OutcomeUnknown, StepTimeout


class Journal(Protocol):
    """What a running step may write to its run's journal."""

    ledger: Ledger

    def record_behind(self, event: events.AnyEvent) -> None: ...
    async def commit(self, event: events.AnyEvent) -> None: ...


class Surroundings(Protocol):
    """What a running step needs of its engine."""

    @property
    def catalogue(self) -> Catalogue: ...


class Run(Protocol):
    """What a running step needs of its run."""

    @property
    def env(self) -> Surroundings: ...
    @property
    def journal(self) -> Journal: ...
    @property
    def machine(self) -> Machine: ...
    def still_owner(self, *, strict: bool) -> bool: ...
    def progress(self, path: str, name: str, detail: Any) -> None: ...
    def now(self) -> int: ...


class StepScope:
    """The running call, as ``step.memo``, ``step.key`` and ``step.heartbeat`` see it."""

    def __init__(self, run: Run, command: commands.RunStep, key: str, attempt: int) -> None:
        self._run, self._command = run, command
        self.key, self.undo_of, self.attempt = key, command.undo_of, attempt
        self.on_heartbeat: Callable[[], None] | None = None
        self.flights: list[asyncio.Task[Any] | None] = []
        self._loop = asyncio.get_running_loop()

    @property
    def catalogue(self) -> Catalogue:
        """Of the engine."""
        return self._run.env.catalogue

    def now(self) -> int:
        """The engine's time, in microseconds since 1970."""
        return self._run.now()

    def heartbeat(self, detail: Any) -> None:
        self._loop.call_soon_threadsafe(self._beat, detail)

    def _beat(self, detail: Any) -> None:
        if self.on_heartbeat is not None:
            self.on_heartbeat()
        self._run.progress(self._command.path, self._command.step.label, detail)

    async def memo(self, key: str, fn: Callable[[], Any], effect: str, input: Any) -> Any:
        """See ``step.memo`` (rule 4)."""
        task = asyncio.current_task()
        self.flights.append(task)
        try:
            return await self._memo(key, fn, effect, input)
        finally:
            self.flights.remove(task)

    def saved(self) -> dict[str, bytes]:
        """The memos that the call has by now, as JSON."""
        entry = self._run.journal.ledger.at(self._command.path)
        return {} if entry is None else {key: each.value for key, each in entry.memos.items()}

    def hand_over(self) -> None:
        """The attempt has its result, which refers to memos."""
        entry = self._run.journal.ledger.at(self._command.path)
        if entry is not None:
            self._run.machine.memos.keep(self._command.path, entry.memos)

    async def stop(self) -> None:
        """No memo outlives its attempt (a failing ``gather`` leaves its others running), or the next would do it
        again."""
        own = asyncio.current_task()
        left = list(dict.fromkeys(task for task in self.flights if task is not None and task is not own))
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)

    async def _memo(self, key: str, fn: Callable[[], Any], effect: str, input: Any) -> Any:
        path, ledger = self._command.path, self._run.journal.ledger
        what = f"the memo {key!r} of {self._command.step.label}"
        hashed = "" if input is None else codec.fingerprint(input, what)
        entry = ledger.open(path)
        saved = entry.memos.get(key)
        if saved is not None and saved.input_hash != hashed:
            self._discard_tail(key, hashed)
            saved = None
        if saved is not None:
            return codec.decode(saved.value, Any, what)
        if key in entry.memo_intents:
            raise OutcomeUnknown(path, key, "the process ended between the intent and the outcome")
        if effect == "irreversible":
            await self._run.journal.commit(events.MemoIntent(at=self._run.now(), path=path, key=key, input_hash=hashed))
            failpoint("after_memo_intent")
        if effect != "read" and not self._run.still_owner(strict=effect == "irreversible"):
            raise asyncio.CancelledError
        value = fn()
        if hasattr(value, "__await__"):
            value = await value
        failpoint("after_memo_effect")
        raw = codec.encode(value, Any, what)
        event = events.MemoSaved(at=self._run.now(), path=path, key=key, value=raw, effect=effect, input_hash=hashed)
        if effect == "read":
            self._run.journal.record_behind(event)
        else:
            await self._run.journal.commit(event)
        return codec.decode(raw, Any, what)

    def _discard_tail(self, key: str, hashed: str) -> None:
        path, memos = self._command.path, self._run.journal.ledger.open(self._command.path).memos
        tail = list(memos.values())[list(memos).index(key) :]
        if any(saved.effect != "read" for saved in tail):
            raise Nondeterminism(
                f"the memo {key!r} at {path} with input {memos[key].input_hash}",
                f"the same memo with input {hashed}",
                "A sub-result stronger than read would be thrown away. Deploy the old code again or take a new key.",
            )
        self._run.journal.record_behind(events.MemosDiscarded(at=self._run.now(), path=path, key=key))


class Threads:
    """Where sync steps run. A thread cannot be stopped: after a time limit it is waited for before a retry (rule
    13)."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._pool: ThreadPoolExecutor | None = None
        self._mutex = threading.Lock()
        self._under_way = 0
        self._then: Callable[[], None] | None = None
        self._at_work: dict[str, asyncio.Future[Any]] = {}
        self.busy = 0

    def at_work(self, key: str) -> asyncio.Future[Any] | None:
        """The thread that is at work on the call of this idempotency key."""
        return self._at_work.get(key)

    def run(self, call: Callable[[], Any], key: str = "") -> asyncio.Future[Any]:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._size, "cadenza-step")
        self.busy += 1
        future = asyncio.get_running_loop().run_in_executor(self._pool, self._work, call)
        if key:
            self._at_work[key] = future
        future.add_done_callback(lambda ended: self._ended(ended, key))
        return future

    async def call(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """``fn``'s result: an async function is awaited here, a sync one runs in a thread, with the same variables."""
        if inspect.iscoroutinefunction(fn):
            return await fn(*args, **kwargs)
        variables = contextvars.copy_context()
        value = await self.run(lambda: variables.run(fn, *args, **kwargs))
        return await value if hasattr(value, "__await__") else value

    def _ended(self, future: asyncio.Future[Any], key: str) -> None:
        self.busy -= 1
        self._at_work.pop(key, None)
        if not future.cancelled():
            future.exception()

    def _work(self, call: Callable[[], Any]) -> Any:
        with self._mutex:
            if self._then is not None:
                raise asyncio.CancelledError
            self._under_way += 1
        try:
            return call()
        finally:
            with self._mutex:
                self._under_way -= 1
                then = None if self._under_way else self._then
            if then is not None:
                then()

    def close(self, then: Callable[[], None]) -> None:
        """Begin nothing more; ``then`` is called once nothing is under way, perhaps by the last thread."""
        with self._mutex:
            self._then, idle = then, not self._under_way
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        if idle:
            then()


StandIn = Callable[[commands.RunStep, StepScope], Callable[..., Any]]
"""Chooses the function that is called for an attempt; as async as the step's own."""


class Attempt:
    """One attempt. ``await attempt.run()`` gives the encoded result; ``leftover`` is a thread that outlived its
    limit."""

    def __init__(
        self, command: commands.RunStep, scope: StepScope, threads: Threads, args: Any, stand_in: StandIn | None = None
    ) -> None:
        self._command, self._scope, self._threads, self._args = command, scope, threads, args
        self._fn = command.step.fn if stand_in is None else stand_in(command, scope)
        self.leftover: asyncio.Future[Any] | None = None

    async def run(self) -> bytes:
        """Raises what the function raises; StepTimeout; InputInvalid, NotSerialisable, PayloadTooLarge for its
        result."""
        current_scope.set(self._scope)  # in the task's own variables: there is nothing to reset
        current_catalogue.set(self._scope.catalogue)
        step = self._command.step
        settings = step.settings
        try:
            if step.around is not None:
                value = await step.around(self._once)
            elif settings.timeout_s is not None or settings.heartbeat_timeout_s is not None:
                value = await self._limited(settings.timeout_s, settings.heartbeat_timeout_s)
            elif step.is_async:
                args, kwargs = self._args
                value = await self._fn(*args, **kwargs)
            else:
                value = await self._call()
        finally:
            if self._scope.flights:
                await self._scope.stop()
        failpoint("after_effect")
        raw = self.encode(value)
        if step.restore is not None:
            self._scope.hand_over()
        return raw

    def encode(self, value: Any) -> bytes:
        step = self._command.step
        result = step.result
        what = f"the result of {step.label}"
        raw = result.encode(value, what)
        if result.annotation is not Any:
            result.decode(raw, what)  # what replay will do must work now
        return raw

    def _once(self) -> Awaitable[Any]:
        settings = self._command.step.settings
        if settings.timeout_s is not None or settings.heartbeat_timeout_s is not None:
            return self._limited(settings.timeout_s, settings.heartbeat_timeout_s)
        return self._call()

    async def _call(self) -> Any:
        args, kwargs = self._args
        if self._command.step.is_async:
            return await self._fn(*args, **kwargs)
        variables = contextvars.copy_context()
        future = self._threads.run(lambda: variables.run(self._fn, *args, **kwargs), self._scope.key)
        self.leftover = future
        value = await asyncio.shield(future)
        self.leftover = None
        return await value if hasattr(value, "__await__") else value

    async def _limited(self, timeout_s: float | None, heartbeat_s: float | None) -> Any:
        label = self._command.step.label
        silent = asyncio.timeout(heartbeat_s)
        loop = asyncio.get_running_loop()
        if heartbeat_s is not None:

            def beat() -> None:
                if not silent.expired():  # else it comes too late
                    silent.reschedule(loop.time() + heartbeat_s)

            self._scope.on_heartbeat = beat
        total = asyncio.timeout(timeout_s)
        try:
            async with total, silent:
                return await self._call()
        except TimeoutError as error:
            if silent.expired():
                raise StepTimeout(f"{label} sent no heartbeat for {heartbeat_s} s") from error
            if total.expired():
                raise StepTimeout(f"{label} took longer than {timeout_s} s") from error
            raise
        finally:
            self._scope.on_heartbeat = None
