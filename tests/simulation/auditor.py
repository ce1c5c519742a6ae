"""A second book of what was committed, apart from the stores: who owned which run in which epoch, and each journal.

Everything that a store accepts is checked here at once; at the end the store's journals must be these.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from cadenza.durable import events
from cadenza.durable.define import find_workflow
from cadenza.durable.machine import Machine
from cadenza.engine import store
from cadenza.engine.store import ENDED, RunRow
from tests.simulation.programs import MISTAKE

if TYPE_CHECKING:
    from tests.simulation.process import Process


class Book:
    """What is durable of one run."""

    def __init__(self, started: events.RunStarted, key: str, limit: int) -> None:
        self.run_id, self.workflow = started.run_id, started.workflow
        self.parent = started.parent
        self.events: list[events.AnyEvent] = [started]
        self.epoch = 0
        self.owners: dict[int, str] = {}
        self.key, self.limit = key, limit
        self.generation = 0
        self.status = "ready"
        self.intents: set[tuple[int, str]] = set()
        self.outcomes: set[tuple[int, str]] = set()
        self.memos: set[tuple[int, str]] = set()
        self.answers: dict[tuple[int, str], bytes] = {}
        self.cancelled_at = -1

    @property
    def owner(self) -> str:
        """Who may write now; nobody if the run waits, is ready or has ended."""
        return self.owners.get(self.epoch, "") if self.status == "running" else ""

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    def asks_for(self, path: str) -> bool:
        """Whether the run, replayed from what is on disk, comes to wait for ``path``: the read barrier was kept."""
        first = max(index for index, event in enumerate(self.events) if isinstance(event, events.RunStarted))
        machine = Machine(find_workflow(self.workflow))
        journal = self.events[first:]
        machine.patches.expect(event.id for event in journal if isinstance(event, events.Patched))
        try:
            for index, event in enumerate(journal, 1):
                machine.replaying = index < len(journal)
                machine.apply(event)
                if path in machine.open:
                    return True
            return False
        finally:
            machine.evict()


class Auditor:
    """Sees every committed operation; ``violate`` is called with what must not be."""

    def __init__(self, violate: Callable[[str], None], trace: Callable[..., None], counts: Counter[str]) -> None:
        self._violate, self._trace, self._counts = violate, trace, counts
        self.books: dict[str, Book] = {}
        self.by_no: dict[int, Book] = {}
        self.tokens: set[str] = set()
        self.open = 0
        self.on_task: Callable[[store.OpenTaskRow], None] = lambda row: None
        self.on_blocked: Callable[[str], None] = lambda run_id: None
        self._under_way: defaultdict[str, set[str]] = defaultdict(set)

    def committed(
        self, process: Process, operations: Sequence[store.Operation[Any]], results: Sequence[tuple[Any, Any]]
    ) -> None:
        """These operations are on disk, with these results."""
        for operation, (result, error) in zip(operations, results, strict=True):
            if error is None:
                self._accepted(process, operation, result)
            else:
                what, why = type(operation).__name__, type(error).__name__
                self._counts[f"refused: {what} by {why}"] += 1
                self._trace(process.name, what, "refused:", why)

    def _accepted(self, process: Process, operation: store.Operation[Any], result: Any) -> None:
        match operation:
            case store.Create(run=run):
                row, is_new = result
                if is_new:
                    self._created(run)
                    if run.owner:
                        self._taken(process, [row])
            case store.Append():
                self._appended(process, operation)
            case store.Claim() | store.Reclaim() if result:
                self._taken(process, result if isinstance(result, list) else [result])
            case store.Post(posting=posting):
                self._posted(result.run_id, posting)
            case store.Terminate(run_id=run_id) if result:
                self._terminated(self.books[run_id], operation)
            case store.Retire() | store.Unblock():
                self._ready_again(operation)
            case _:
                pass

    # --- operations -----------------------------------------------------------------------------------------------

    def _ready_again(self, operation: store.Retire | store.Unblock) -> None:
        for book in self.books.values():
            if isinstance(operation, store.Retire):
                freed = book.owner == operation.owner
            else:
                freed = book.status == "blocked" and operation.run_id in ("", book.run_id)
            if freed:
                book.status = "ready"

    def _created(self, run: store.NewRun) -> None:
        book = Book(run.started, run.concurrency_key, run.concurrency)
        self.books[run.started.run_id] = book
        self.open += 1
        self._trace("run", book.run_id, "of", book.workflow.rpartition(":")[2])

    def _taken(self, process: Process, rows: list[RunRow]) -> None:
        for row in rows:
            self._now_owned(process, row)
        process.faults.warm("claim")

    def _now_owned(self, process: Process, row: RunRow) -> None:
        book = self.by_no.setdefault(row.no, self.books[row.run_id])
        self._trace(process.name, "takes", row.run_id, "in epoch", row.epoch)
        if row.epoch <= book.epoch or row.epoch in book.owners:
            self._violate(f"{row.run_id}: {process.name} owns epoch {row.epoch}; {book.owners} did before")
        if book.ended:
            self._violate(f"{row.run_id}: {process.name} took it after its end")
        if book.owner not in ("", process.name):
            self._counts["taken over"] += 1
        book.epoch, book.status = row.epoch, "running"
        book.owners[row.epoch] = process.name
        if book.limit:
            under_way = self._under_way[book.key]
            under_way.add(book.run_id)
            if len(under_way) > book.limit:
                self._violate(f"{book.key}: {len(under_way)} runs under way, at most {book.limit} may be: {under_way}")

    def _appended(self, process: Process, operation: store.Append) -> None:
        book = self.by_no[operation.no]
        if book.owner != process.name or book.epoch != operation.epoch:
            now = f"{book.owner or 'nobody'} owns {book.epoch}"
            self._violate(f"{book.run_id}: {process.name} wrote in epoch {operation.epoch}; {now}")
        if operation.head != len(book.events) and (operation.head != store.ANY_HEAD or operation.events):
            self._violate(f"{book.run_id}: an append at {operation.head}, and the journal ends at {len(book.events)}")
        told = {posting.to for posting in operation.postings}
        for event in operation.events:
            self._noted(book, event, told)
        for child in operation.children:
            if child.started.run_id not in self.books:
                self._created(child)
        for posting in operation.postings:
            self._posted(posting.to, posting)
        for task in operation.tasks_opened:
            self.on_task(task)
        if (change := operation.change) is not None:
            self._changed(book, change)
        names = ",".join(f"{type(event).__name__}({getattr(event, 'path', '')})" for event in operation.events)
        self._trace(
            process.name, "appends to", book.run_id, f"{operation.head}:", names, change.status if change else ""
        )

    def _changed(self, book: Book, change: store.Change) -> None:
        was_open = not book.ended
        book.status = change.status
        if book.ended and was_open:
            self.open -= 1
            self._under_way[book.key].discard(book.run_id)
        if change.status == "blocked" and MISTAKE in change.detail:
            self.on_blocked(book.run_id)
        elif change.status == "blocked":
            self._violate(f"{book.run_id} is blocked after {book.events[-1]}: {change.detail}")

    def _posted(self, run_id: str, posting: store.Posting) -> None:
        book = self.books.get(run_id)
        if book is not None and isinstance(posting.event, events.TaskAnswered):
            generation = book.generation if posting.generation < 0 else posting.generation
            book.answers.setdefault((generation, posting.event.path), posting.event.answer)

    def _terminated(self, book: Book, operation: store.Terminate) -> None:
        book.events.append(events.RunCancelled(at=operation.now, reason=operation.reason))
        book.epoch += 1
        self._changed(book, store.Change("cancelled"))

    # --- events ---------------------------------------------------------------------------------------------------

    def _noted(self, book: Book, event: events.AnyEvent, told: set[str]) -> None:
        last = book.events[-1]
        if event.at < last.at:
            self._violate(f"{book.run_id}: {event} is older than {last}")
        if isinstance(last, events.TERMINALS) and not isinstance(event, events.RunStarted):
            self._violate(f"{book.run_id}: {event} after {last}")
        book.events.append(event)
        if isinstance(event, events.Outcome):
            self._outcome(book, event)
        else:
            self._record(book, event, told)

    def _outcome(self, book: Book, event: events.Outcome) -> None:
        what = event.run_id if isinstance(event, events.ChildEnded) else getattr(event, "path", "")
        place = book.generation, what
        if place[1]:
            self._end_of(book, place, event)
        match event:
            case events.StepCompleted(value=value) if value.startswith(b'"'):
                self.tokens.add(msgspec.json.decode(value))
            case events.TaskAnswered(answer=answer) if book.answers.get(place) != answer:
                self._violate(f"{book.run_id}: {place[1]} has the answer {answer!r}, and another was first")
            case events.CancelRequested():
                book.cancelled_at = len(book.events) - 1
            case _:
                pass

    def _record(self, book: Book, event: events.AnyEvent, told: set[str]) -> None:
        here = book.generation
        match event:
            case events.RunStarted(generation=generation):
                book.generation = generation
            case events.CancelSent(run_id=child) if child not in told:
                self._violate(f"{book.run_id}: the cancellation of {child} was not sent")
            case events.StepCancelled(path=path):
                self._end_of(book, (here, path), event)
            case events.StepIntent(path=path):
                if (here, path) in book.intents:
                    self._violate(f"{book.run_id}: a second intent at {path}")
                book.intents.add((here, path))
            case events.MemoIntent(path=path, key=key):
                book.intents.add((here, f"{path}/{key}"))
            case events.AttemptFailed(path=path):
                book.intents.discard((here, path))
            case events.DoubtResolved(path=path, decision="not_done", memo=memo):
                book.intents.discard((here, f"{path}/{memo}" if memo else path))
            case events.MemoSaved(path=path, key=key):
                if (here, f"{path}/{key}") in book.memos:
                    self._violate(f"{book.run_id}: the memo {key} at {path} is saved twice")
                book.memos.add((here, f"{path}/{key}"))
            case _:
                pass

    def _end_of(self, book: Book, place: tuple[int, str], event: events.AnyEvent) -> None:
        if place in book.outcomes:
            self._violate(f"{book.run_id}: a second outcome at {place[1]}: {event}")
        book.outcomes.add(place)
