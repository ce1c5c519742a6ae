"""Engine: start runs, wait for them, talk to them. The one object that people and programs outside of workflows use."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from cadenza.durable import codec, events
from cadenza.durable.define import WorkflowFunction, find_workflow
from cadenza.durable.human import Answer, HumanTask
from cadenza.durable.path import is_label
from cadenza.engine.answering import open_task
from cadenza.engine.clock import Clock, SystemClock
from cadenza.engine.filter import Filter
from cadenza.engine.finding import find_run, is_settled
from cadenza.engine.handle import RunHandle
from cadenza.engine.live import Live
from cadenza.engine.memory import MemoryStore
from cadenza.engine.options import EngineOptions
from cadenza.engine.query import query
from cadenza.engine.retention import purge
from cadenza.engine.run_id import check_business_id
from cadenza.engine.service import Service
from cadenza.engine.store import Conflict, OpenTaskRow, Post, Posting, RunRow, Store, Terminate, Unblock
from cadenza.engine.update import UPDATE_S, update
from cadenza.engine.upkeep import Purged
from cadenza.engine.waiting import Ended
from cadenza.engine.worker import Worker
from cadenza.errors import UsageError

if TYPE_CHECKING:  # what comes from here is imported where it is used: most programs never do
    from cadenza.engine.archive import Imported
    from cadenza.engine.deploy_check import Verdict
    from cadenza.engine.sqlite.backup import Backup
    from cadenza.engine.sqlite.vacuum import Vacuumed

T = TypeVar("T")
GRACE_S = 10.0


class Engine:
    """Runs workflows on a store. ``clock`` and ``chance`` are the machine's own; a simulator gives others.

    ``async with Engine.open("cadenza.db") as engine:`` starts it, and drains it at the end: steps in flight end, runs
    are released, and whoever opens the store next goes on with them.
    """

    service_type: type[Service] = Service

    def __init__(
        self,
        store: Store,
        options: EngineOptions | None = None,
        clock: Clock | None = None,
        chance: random.Random | None = None,
    ) -> None:
        self.options = options or EngineOptions()
        self.store = store
        self.clock = clock or SystemClock()
        self.chance = chance or random.SystemRandom()
        self.service = self.service_type(store, self.options, self.clock, self.chance)
        self.catalogue = self.service.catalogue

    @property
    def worker(self) -> Worker | None:
        """What drives runs in this process; None if nothing does."""
        return self.service.worker

    @property
    def owner(self) -> str:
        """The name under which this engine owns runs."""
        return self.service.owner

    @classmethod
    def open(cls, location: str | Path = "cadenza.db", options: EngineOptions | None = None) -> Engine:
        """An engine on a SQLite file (created if missing), or on memory (``":memory:"``).

        Raises:
            StoreUnavailable, StoreCorrupt, StoreVersion, KeyMissing: the file cannot be used.
        """
        if str(location) == ":memory:":
            return cls(MemoryStore(), options)
        from cadenza.engine.sqlite.store import SQLiteStore  # lazy: apsw is not needed to import cadenza

        return cls(SQLiteStore(location), options)

    # --- life -----------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.service.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close(0.5 if kind is not None else GRACE_S)

    async def close(self, grace_s: float = GRACE_S) -> None:
        """Drain: wait up to ``grace_s`` seconds for steps in flight, stop them, release the runs, close the store."""
        await self.service.close(grace_s)

    # --- runs -----------------------------------------------------------------------------------------------------

    async def start(
        self,
        workflow: WorkflowFunction[..., T] | str,
        input: Any = None,
        *,
        id: str = "",
        on_conflict: Conflict = "reject",
        priority: int = 0,
    ) -> RunHandle[T]:
        """Start a run; it is on disk when this returns.

        Args:
            workflow: the function, or its name (``module:qualname``).
            input: fits the workflow's annotation.
            id: a business id, unique among the store's runs; none by default.
            on_conflict: if the id is taken: ``reject`` (DuplicateRun), ``join`` (a handle to that run), or ``replace``
                (that run is cancelled, and the id goes to the new one).
            priority: higher is claimed first.

        Raises:
            UnknownName, InputInvalid, NotSerialisable, PayloadTooLarge, DuplicateRun, UsageError, StoreError.
        """
        check_business_id(id, on_conflict)
        found = find_workflow(workflow) if isinstance(workflow, str) else workflow
        row = await self.service.start(found, found.encode_input(input), priority, id, on_conflict)
        return RunHandle(self, row.run_id, found)

    def handle(self, run_id: str) -> RunHandle[Any]:
        """A handle to a run by its run id, business id, or the beginning of its run id. Raises UnknownName."""
        return RunHandle(self, self.find(run_id).run_id)

    def find(self, run_id: str) -> RunRow:
        """A run as lists show it, by run id, business id, or a run id's beginning. Raises UnknownName."""
        return find_run(self.store, run_id)

    def runs(self, filter: Filter | None = None) -> list[RunRow]:
        """Runs, newest first."""
        return self.store.runs(filter or Filter())

    def journal(self, run_id: str) -> list[events.AnyEvent]:
        """All events of a run, all generations, in order."""
        return self.store.events(self.find(run_id).no)

    async def ended(self, run_id: str) -> Ended:
        """Wait until a run has ended or is blocked."""
        return await self.service.ended(run_id)

    def is_settled(self, row: RunRow) -> bool:
        """Whether nothing will happen to a run unless somebody does something: it ended, is blocked, or only waits."""
        return is_settled(self.store, row)

    # --- talking to runs ------------------------------------------------------------------------------------------

    async def signal(self, run_id: str, name: str, value: Any = None, *, key: str = "") -> None:
        """Send a run a message; it is on disk when this returns.

        Args:
            key: deduplicates: a second message with the same key is ignored.

        Raises:
            UnknownName, UsageError (the run has ended), InboxFull, NotSerialisable.
        """
        if not is_label(name):
            raise UsageError(f"{name!r} is no name of a message; use letters, digits, '_', '-' and '.'")
        raw = codec.encode(value, Any, f"the message {name!r}")
        letter = events.MessageReceived(at=self.clock.now(), name=name, value=raw)
        await self._post(run_id, letter, key and f"signal:{key}", bounded=True)

    async def cancel(self, run_id: str, reason: str = "cancelled by a person", *, force: bool = False) -> None:
        """Ask a run to stop, clean up and undo. ``force`` ends it without its code: nothing is undone."""
        row = self.find(run_id)
        if row.ended:
            raise UsageError(f"run {row.run_id} is {row.status} already")
        if force:
            await self.service.perform(Terminate(row.run_id, reason, self.clock.now()))
            if self.worker is not None and (runner := self.worker.runners.get(row.no)) is not None:
                runner.lose(row.epoch + 1)
        else:
            await self._post(row.run_id, events.CancelRequested(at=self.clock.now(), reason=reason))

    async def resume(self, run_id: str) -> RunHandle[Any]:
        """Go on with a run: give a blocked one another try, and take up one that nobody drives."""
        row = self.find(run_id)
        if self.worker is not None:
            self.worker.take_in(row.root)
        if row.status == "blocked":
            await self.service.perform(Unblock(row.run_id, self.clock.now()))
        self.service.nudge()
        return RunHandle(self, row.run_id)

    def tasks(self, run_id: str = "") -> list[tuple[OpenTaskRow, HumanTask]]:
        """Questions that wait for a person, oldest first; of one run, or of all."""
        rows = self.store.tasks(self.find(run_id).run_id if run_id else "")
        return [(row, codec.decode(row.task, HumanTask, f"the task at {row.path}")) for row in rows]

    async def answer(self, run_id: str, path: str, answer: Answer, *, asked_at: int = 0) -> None:
        """Answer a question: the one that was asked at ``asked_at``, as ``tasks`` says; by default the one open now.

        Raises:
            UnknownName: it is not open (any more).
            UsageError: an answer waits to be read.
            InputInvalid: the answer does not fit.
        """
        row = self.find(run_id)
        tasks = [each for each in self.tasks(row.run_id) if asked_at in (0, each[0].asked_at)]
        task = open_task(tasks, self.store.letters(row.no), path, answer)
        raw = codec.encode(answer, Answer, "the answer")
        letter = events.TaskAnswered(at=self.clock.now(), path=path, answer=raw, asked_at=task.asked_at)
        await self._post(row.run_id, letter, generation=task.generation)

    async def _post(
        self, run_id: str, event: events.Outcome, key: str = "", generation: int = -1, *, bounded: bool = False
    ) -> None:
        row = self.find(run_id)
        posting = Posting(row.run_id, event, key, generation, bounded)
        await self.service.perform(Post(posting, self.clock.now()))

    async def query(self, run_id: str, name: str = "") -> Any:
        """A view of a run (``ctx.view``) as plain JSON data, read without waking it.

        Args:
            name: the view's name; may be left out if the run has declared just one.

        Raises:
            UnknownName: no such run, workflow or view.
            UsageError: no view was named and there are several; or the view does not only read, or raises.
            WorkflowBug: the code does not fit the run's journal (any more), or does not yield.
            NotSerialisable, StoreError.
        """
        return await query(self, run_id, name)

    async def update(
        self, run_id: str, name: str, value: Any = None, *, key: str = "", timeout_s: float = UPDATE_S
    ) -> Any:
        """Send a run an update (``ctx.on_update``) and wait for its answer: what the handler returned, as plain data.

        Args:
            key: an update is handled once for each key; asking again with the same key gives the same answer.
            timeout_s: how long to wait. The run may still handle it afterwards: ask again with the same key.

        Raises:
            UpdateRefused: the validator, or the type of the value, or the run knows no such update. Nothing happened.
            UpdateFailed: the handler raised; the run ended or continued as new without an answer; or none in time.
            UnknownName, NotSerialisable, InboxFull, StoreError; UsageError: the run has ended.
        """
        return await update(self, run_id, name, value, key=key, timeout_s=timeout_s)

    # --- going on from the middle of a run ------------------------------------------------------------------------

    async def fork(
        self,
        run_id: str,
        *,
        at: str | int = "",
        outputs: Mapping[str, Any] | None = None,
        redo_irreversible: bool = False,
    ) -> RunHandle[Any]:
        """Start a new run from the middle of ``run_id``, which must not be running at the moment, and stays as it is.

        Args:
            at: the path whose outcome is left out, with all that came of it; or the number of the first event that is
                not copied. By default the first path of ``outputs``.
            outputs: values instead of the outcomes of these paths: a step's result, a child's, a person's Answer.
            redo_irreversible: whether irreversible work that the origin did after that may be done once more.

        Raises:
            UnknownName: no such run or path. InputInvalid: an output does not fit.
            UsageError: it is running; irreversible work would be done again; what the fork counts on was undone.
            WorkflowBug: the code of this process does not fit the run's journal.
        """
        from cadenza.engine.fork import fork

        return await fork(self, run_id, at=at, outputs=outputs, redo_irreversible=redo_irreversible)

    async def retry(self, run_id: str, *, redo_irreversible: bool = False) -> RunHandle[Any]:
        """Go on with a failed or cancelled run from where it failed, as a new run that takes over the business id.

        What succeeded is not done again. A run is retried once; after that, its retry is.

        Raises:
            UsageError: it has not failed; it was retried already; it is a child run, or has one that goes on;
                irreversible work would be done again.
            UnknownName, WorkflowBug: as ``fork``.
        """
        from cadenza.engine.retry import retry

        return await retry(self, run_id, redo_irreversible=redo_irreversible)

    async def reset(
        self,
        run_id: str,
        *,
        to: str | int,
        outputs: Mapping[str, Any] | None = None,
        redo_irreversible: bool = False,
    ) -> RunHandle[Any]:
        """Let a run go on from an earlier place (``to``: see ``at`` of ``fork``), as a new run with its business id.

        If it has not ended, it is ended without its code: what it did is not undone. So are its child runs.

        Raises:
            As ``fork``; and UsageError for a child run.
        """
        from cadenza.engine.retry import reset

        return await reset(self, run_id, to=to, outputs=outputs, redo_irreversible=redo_irreversible)

    def check_deploy(self) -> list[Verdict]:
        """What would become of every run that has not ended, oldest first, on the code of this process.

        Each is replayed here, on the caller's thread; nothing is written. Raises StoreError.
        """
        from cadenza.engine.deploy_check import check_runs, open_runs

        return list(check_runs(self.store, open_runs(self.store)))

    # --- the store ------------------------------------------------------------------------------------------------

    async def purge(self, filter: Filter, progress: Callable[[int], None] = lambda _: None) -> Purged:
        """Delete all ended runs that ``filter`` names (its ``limit`` aside), with everything that belongs to them.

        Runs whose parent has not ended stay. ``progress`` is called with the number of purged runs, batch by batch.

        Raises:
            StoreError: what was purged before stays purged, and another purge goes on.
        """
        return await purge(self, filter, progress)

    def export(self, run_id: str) -> Iterator[bytes]:
        """The lines of a file that holds a run and its child runs, as they are now, in plain. Raises UnknownName."""
        from cadenza.engine.archive import export_run

        return export_run(self, run_id)

    async def import_(self, lines: Iterable[bytes], where: str = "the import", *, take_over: bool = False) -> Imported:
        """Take in the runs of an export, all of them or none.

        Args:
            where: what to call the file in messages.
            take_over: only this store goes on with those that have not ended; without it they are refused.

        Raises:
            ImportRefused: the file is foreign, newer, damaged or edited; a run id or business id is taken; or a run
                has not ended.
        """
        from cadenza.engine.archive import import_runs

        return await import_runs(self, lines, where, take_over=take_over)

    async def backup(self, target: str | Path, progress: Callable[[int, int], None] | None = None) -> Backup:
        """Copy the store to the file ``target``, as it is now, and check the copy; nobody is held up.

        ``progress`` is called with the pages copied and the pages in all, on another thread.

        Raises:
            UsageError: ``target`` exists, or the store is in memory. StoreUnavailable, StoreCorrupt.
        """
        from cadenza.engine.sqlite.backup import back_up

        return await asyncio.to_thread(back_up, self._file(), Path(target), progress)

    async def vacuum(self) -> Vacuumed:
        """Make the store's file as small as what it holds. Writes of all processes wait meanwhile.

        Raises:
            StoreUnavailable: too little room on the disk; nothing was changed. UsageError: the store is in memory.
        """
        from cadenza.engine.sqlite.vacuum import vacuum

        path = self._file()
        return await asyncio.to_thread(vacuum, path, path.with_name(f"{path.name}-locks"))

    def _file(self) -> Path:
        path: Path | None = getattr(self.store, "path", None)
        if path is None:
            raise UsageError("this store is in memory and has no file")
        return path

    # --- watching -------------------------------------------------------------------------------------------------

    def observe(self, observer: Callable[[Live], None]) -> Callable[[], None]:
        """Call ``observer`` with what happens from now on, on the loop; returns the function that ends it.

        Runs that are already in memory are watched from their next activation on.
        """
        for runner in self.worker.runners.values() if self.worker is not None else ():
            runner.watched = True
        return self.service.feed.observe(observer)
