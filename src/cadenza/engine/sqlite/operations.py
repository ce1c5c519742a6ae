"""What each operation does to the database, inside of the writer's transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import msgspec

from cadenza.durable.events import (
    PAYLOAD_FIELDS,
    AnyEvent,
    CancelRequested,
    ChildEnded,
    RunCancelled,
    Scalar,
)
from cadenza.engine import store, upkeep
from cadenza.engine.failpoint import failpoint
from cadenza.engine.sqlite.database import Connection
from cadenza.engine.sqlite.listing import as_value
from cadenza.engine.sqlite.payloads import Payloads
from cadenza.engine.sqlite.purging import Purging
from cadenza.engine.sqlite.sql import queries
from cadenza.engine.store import ANY_HEAD, BLOB_BYTES_MIN, ENDED, INBOX_MAX, SEQ_BITS, SEQ_MASK, RunRow
from cadenza.errors import DuplicateRun, Fenced, InboxFull, StoreError, UnknownName, UsageError

ROWS = 100
"""So many rows go into one statement."""


@cache
def _insert_events(rows: int) -> str:
    return "INSERT INTO journal (id, event, blob) VALUES " + ",".join(["(?,?,?)"] * rows)


class Operations:
    """Carries out operations on a connection that is inside of a transaction."""

    def __init__(self, connection: Connection, payloads: Payloads) -> None:
        self._payloads = payloads
        self._execute: Callable[..., Any] = connection.cursor().execute
        self._connection = connection
        self._sql = queries()
        self._handlers: dict[type[Any], Callable[[Any], Any]] = {
            store.Create: self._create,
            store.Append: self._append,
            store.Post: self._post,
            store.Claim: self._claim,
            store.Reclaim: self._reclaim,
            store.Renew: self._renew,
            store.Retire: self._retire,
            store.Unblock: self._unblock,
            store.Terminate: self._terminate,
            store.Import: self._import,
            upkeep.TakeAlert: self._take_alert,
            upkeep.DropAlert: self._drop_alert,
            upkeep.Purge: Purging(connection).purge,
        }

    def carry_out(self, operation: store.Operation[Any]) -> Any:
        """Carry out one operation. Raises CadenzaError if it is refused, before anything of it is written."""
        return self._handlers[type(operation)](operation)

    # --- runs -----------------------------------------------------------------------------------------------------

    def _create(self, operation: store.Create) -> tuple[RunRow, bool]:
        new = operation.run
        for old in operation.instead_of:
            head = (self._first("head", old.no)[0] or 0) & SEQ_MASK
            if (head, self._first("count_unread", old.no)[0]) != (old.head, old.unread):
                raise Fenced(old.run_id, 0, f"it has gone on since event {old.head}")
        for old in operation.instead_of:
            self._terminate(store.Terminate(old.run_id, old.reason, new.created_at))
        row = self._find(new.started.run_id) or self._business(new.business_id)
        if row is not None:
            if new.on_conflict == "join" or row.run_id == new.started.run_id:
                return row, False
            if new.on_conflict == "reject":
                raise DuplicateRun(new.business_id, row.run_id, row.shown_status)
            if not row.ended:
                self._deliver(row, store.Posting(row.run_id, CancelRequested(at=0, reason="replaced")), new.created_at)
            self._execute(self._sql["forget_business_id"], (row.no,))
        row = self._insert(new)
        for child in operation.children:
            self._insert(child)
        return row, True

    def _insert(self, new: store.NewRun) -> RunRow:
        started, at = new.started, new.created_at
        status, epoch = ("running", 1) if new.owner else ("ready", 0)
        self._execute(
            self._sql["insert_run"],
            (
                *(started.run_id, started.workflow, status, new.business_id, started.generation, epoch, new.owner, at),
                *(new.priority, new.concurrency_key, new.concurrency, started.parent, started.parent_path, at),
            ),
        )
        no = self._connection.last_insert_rowid()
        self._write(no, 1, (started, *new.history))
        self._set_attributes(no, store.attributes_of(new.history))
        return RunRow(
            no=no,
            run_id=started.run_id,
            workflow=started.workflow,
            status=status,
            business_id=new.business_id,
            generation=started.generation,
            epoch=epoch,
            owner=new.owner,
            ready_at=at,
            priority=new.priority,
            concurrency_key=new.concurrency_key,
            concurrency=new.concurrency,
            parent=started.parent,
            parent_path=started.parent_path,
            created_at=at,
        )

    def _append(self, operation: store.Append) -> None:
        no, now = operation.no, operation.now
        found = self._first("fence", no)
        if found is None:
            raise Fenced(no, operation.epoch, "there is no such run")
        epoch, owner, last = found
        head = (last or 0) & SEQ_MASK
        if epoch != operation.epoch or not owner:
            raise Fenced(no, operation.epoch, f"the epoch is {epoch} now, the owner {owner or 'nobody'}")
        if operation.head not in (head, ANY_HEAD):
            raise Fenced(no, operation.epoch, f"the journal ends at {head}, not at {operation.head}")
        if head + len(operation.events) > SEQ_MASK:
            raise StoreError(
                f"run number {no} has {head:,} events, and there is no number for another. Start a new run"
            )
        self._write(no, head + 1, operation.events)
        for letter in operation.consumed:
            self._execute(self._sql["consume_plain"], (letter, no))
            self._execute(self._sql["consume_keyed"], (letter, no))
        for child in operation.children:
            if self._find(child.started.run_id) is None:
                self._insert(child)
        for posting in operation.postings:
            self._post_quietly(posting, now)
        for task in operation.tasks_opened:
            self._open_task(no, task)
        for path in operation.tasks_closed:
            self._execute(self._sql["close_task"], (no, path))
        self._set_attributes(no, operation.attributes)
        if operation.change is not None:
            self._change(no, operation.change, now)

    def _write(self, no: int, seq: int, several: Sequence[AnyEvent]) -> None:
        """Events from ``seq`` on. A statement gives up the interpreter's lock, so that few of many rows are quicker."""
        bindings: list[Any] = []
        for id, event in enumerate(several, no << SEQ_BITS | seq):
            field = PAYLOAD_FIELDS.get(type(event))
            digest: bytes | None = None
            if field is not None:
                payload: bytes = getattr(event, field)
                if len(payload) > BLOB_BYTES_MIN:
                    digest, body = self._payloads.blob(payload)
                    self._execute(self._sql["insert_blob"], (digest, body))
                    event = msgspec.structs.replace(event, **{field: b""})
            bindings += (id, self._payloads.event(id, event), digest)
        for start in range(0, len(bindings), 3 * ROWS):
            chunk = bindings[start : start + 3 * ROWS]
            self._execute(_insert_events(len(chunk) // 3), chunk)

    def _open_task(self, no: int, task: store.OpenTaskRow) -> None:
        body = self._payloads.task(no, task.path, task.task)
        self._execute(self._sql["open_task"], (no, task.path, task.generation, body, task.asked_at))

    def _set_attributes(self, no: int, several: Sequence[tuple[str, Scalar | None]]) -> None:
        for name, value in several:
            if value is None:
                self._execute(self._sql["drop_attribute"], (no, name))
            else:
                self._execute(self._sql["set_attribute"], (no, name, as_value(value)))

    def _change(self, no: int, change: store.Change, now: int) -> None:
        row = self._row(no)
        status = change.status
        if status == "waiting" and ((change.wake_at and change.wake_at <= now) or self._first("has_unread", no)[0]):
            status = "ready"
        detail = self._payloads.detail(row.run_id, change.detail)
        self._execute(
            self._sql["change_run"],
            (
                *(status, "" if change.release else row.owner, now, change.wake_at, detail, change.ended_at),
                row.generation if change.generation is None else change.generation,
                row.first_seq if change.first_seq is None else change.first_seq,
                no,
            ),
        )
        if change.alert:
            self._execute(self._sql["insert_alert"], (now, no))
        if status in ENDED:
            self._execute(self._sql["close_tasks"], (no,))

    def _import(self, operation: store.Import) -> None:
        for row in (copy.row for copy in operation.copies):
            here = self._find(row.run_id) or self._business(row.business_id)
            if here is not None:
                raise store.taken(row, here)
        for copy in operation.copies:
            row = msgspec.structs.replace(copy.row, owner="")
            *others, detail = msgspec.structs.astuple(row)[1:]
            self._execute(self._sql["insert_copy"], (*others, self._payloads.detail(row.run_id, detail)))
            no = self._connection.last_insert_rowid()
            self._write(no, 1, copy.events)
            self._set_attributes(no, store.attributes_of(copy.events))
            for mail in copy.mail:
                event = None if mail.event is None else self._payloads.letter(no, mail.event)
                self._execute(self._sql["insert_letter"], (no, mail.key or None, mail.generation, event))
            for task in copy.tasks:
                self._open_task(no, task)

    # --- letters --------------------------------------------------------------------------------------------------

    def _post(self, operation: store.Post) -> RunRow:
        posting = operation.posting
        row = self._find(posting.to) or self._business(posting.to)
        if row is None:
            raise UnknownName("run", posting.to)
        if row.ended:
            if self._first("known_letter", row.no, posting.key):  # it arrived in time, and this is its repetition
                return row
            raise UsageError(f"run {row.run_id} is {row.status}; nothing was sent")
        self._deliver(row, posting, operation.now)
        return self._row(row.no)

    def _post_quietly(self, posting: store.Posting, now: int) -> None:
        row = self._find(posting.to) or self._business(posting.to)
        if row is not None and not row.ended:
            self._deliver(row, posting, now)

    def _deliver(self, row: RunRow, posting: store.Posting, now: int) -> None:
        if posting.bounded and self._first("count_unread", row.no)[0] >= INBOX_MAX:
            if self._first("known_letter", row.no, posting.key):
                return
            raise InboxFull(row.run_id, INBOX_MAX)
        event = self._payloads.letter(row.no, posting.event)
        self._execute(self._sql["insert_letter"], (row.no, posting.key or None, posting.generation, event))
        if row.status == "waiting" and self._connection.changes():
            self._execute(self._sql["wake"], (now, row.no))

    def _take_alert(self, operation: upkeep.TakeAlert) -> bool:
        self._execute(self._sql["take_alert"], (operation.due_at, operation.id, operation.attempts))
        return bool(self._connection.changes())

    def _drop_alert(self, operation: upkeep.DropAlert) -> None:
        self._execute(self._sql["drop_alert"], (operation.id,))

    # --- owners ---------------------------------------------------------------------------------------------------

    def _claim(self, operation: store.Claim) -> list[RunRow]:
        now = operation.now
        self._execute(self._sql["promote_due"], (now,))
        only = operation.family
        expired = [owner for (owner,) in self._execute(self._sql["expired_owners"], (now,)).fetchall()]
        for owner in {*expired, *operation.dead}:
            self._execute(self._sql["free_runs"], (now, owner))
            self._execute(self._sql["delete_owner"], (owner,))
        chosen: list[int] = []
        admitted: dict[str, int] = {}
        ready = self._connection.cursor()
        for no, run_id, epoch, concurrency, key in ready.execute(self._sql["ready_runs"]):
            if len(chosen) >= operation.limit:
                break
            if only and run_id.partition(".")[0] not in only:
                continue
            if concurrency and not epoch:
                under_way = self._first("under_way", key)[0]
                if under_way + admitted.get(key, 0) >= concurrency:
                    continue
                admitted[key] = admitted.get(key, 0) + 1
            chosen.append(no)
        ready.close(True)
        taken = [self._payloads.read_run(self._first("take", operation.owner, no)) for no in chosen]
        if taken:
            failpoint("in_claim")
        return taken

    def _reclaim(self, operation: store.Reclaim) -> RunRow | None:
        found = self._first("reclaim", operation.no, operation.owner)
        return None if found is None else self._payloads.read_run(found)

    def _renew(self, operation: store.Renew) -> None:
        owner = operation.owner
        self._execute(self._sql["renew"], (owner.owner, owner.host, owner.pid, owner.expires_at))

    def _retire(self, operation: store.Retire) -> None:
        self._execute(self._sql["free_runs"], (operation.now, operation.owner))
        self._execute(self._sql["delete_owner"], (operation.owner,))

    def _unblock(self, operation: store.Unblock) -> int:
        self._execute(self._sql["unblock"], (operation.now, operation.run_id))
        return self._connection.changes()

    def _terminate(self, operation: store.Terminate) -> bool:
        row = self._find(operation.run_id)
        if row is None:
            raise UnknownName("run", operation.run_id)
        if row.ended:
            return False
        last = self._first("head", row.no)[0]
        cancelled = RunCancelled(at=operation.now, reason=operation.reason)
        self._write(row.no, (last & SEQ_MASK) + 1, (cancelled,))
        self._execute(self._sql["bump_epoch"], (row.no,))
        change = store.Change("cancelled", ended_at=operation.now, detail=operation.reason)
        self._change(row.no, change, operation.now)
        if row.parent:
            event = ChildEnded(at=operation.now, path=row.parent_path, run_id=row.run_id, status="cancelled")
            self._post_quietly(store.Posting(row.parent, event, key=f"ended:{row.run_id}"), operation.now)
        return True

    # --- rows -----------------------------------------------------------------------------------------------------

    def _first(self, name: str, *bindings: Any) -> Any:
        """The first row, or None. The statement is run to its end: an open one would hold up the commit, or hold on to
        an old snapshot, from which nothing can be written."""
        rows = self._execute(self._sql[name], bindings).fetchall()
        return rows[0] if rows else None

    def _row(self, no: int) -> RunRow:
        return self._payloads.read_run(self._first("run_by_no", no))

    def _find(self, run_id: str) -> RunRow | None:
        found = self._first("run_by_id", run_id)
        return None if found is None else self._payloads.read_run(found)

    def _business(self, business_id: str) -> RunRow | None:
        found = self._first("run_by_business_id", business_id)
        return None if found is None else self._payloads.read_run(found)
