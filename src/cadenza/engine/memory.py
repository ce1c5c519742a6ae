"""A store in memory: the same operations and the same fences as SQLite, without a disk. For tests and for trying
things."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence, Set
from typing import Any

import msgspec

from cadenza.durable.events import AnyEvent, CancelRequested, ChildEnded, RunCancelled
from cadenza.engine import store, upkeep
from cadenza.engine.memory_tables import Tables
from cadenza.engine.store import (
    ANY_HEAD,
    ENDED,
    INBOX_MAX,
    Letter,
    OwnerRow,
    RunRow,
    no_such_run,
)
from cadenza.errors import DuplicateRun, Fenced, InboxFull, UnknownName, UsageError

replace = msgspec.structs.replace


class MemoryStore(Tables):
    """All of a store in dictionaries; not shared between processes."""

    location = ":memory:"

    def __init__(self) -> None:
        super().__init__()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._owners: dict[str, OwnerRow] = {}
        self._handlers: dict[type[Any], Callable[[Any], Any]] = {
            kind: getattr(self, f"_{kind.__name__.lower()}")
            for kind in (
                *(store.Create, store.Append, store.Post, store.Claim, store.Reclaim),
                *(store.Renew, store.Retire, store.Unblock, store.Terminate, store.Import),
                *(upkeep.Purge, upkeep.TakeAlert, upkeep.DropAlert),
            )
        }

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def close(self) -> None:
        self._loop = None

    # --- writes ---------------------------------------------------------------------------------------------------

    def submit(self, operation: store.Operation[Any], done: store.Done, *, inline: bool = False) -> None:
        result, error = self.carry_out(operation)
        if inline or self._loop is None:
            done(result, error)
        else:
            self._loop.call_soon(done, result, error)

    def carry_out(self, operation: store.Operation[Any]) -> tuple[Any, Exception | None]:
        """Carry out one operation at once: (result, error)."""
        self._version += 1
        try:
            return self._handlers[type(operation)](operation), None
        except (Fenced, DuplicateRun, InboxFull, UsageError) as error:
            return None, error

    def _create(self, operation: store.Create) -> tuple[RunRow, bool]:
        new = operation.run
        for old in operation.instead_of:
            journal = self._journals.get(old.no, [])
            if (len(journal), len(self._inboxes.get(old.no, []))) != (old.head, old.unread):
                raise Fenced(old.run_id, 0, f"it has gone on since event {old.head}")
        for old in operation.instead_of:
            self._terminate(store.Terminate(old.run_id, old.reason, new.created_at))
        existing = self._numbers.get(new.started.run_id)
        if existing is None and new.business_id:
            existing = self._business.get(new.business_id)
        if existing is not None:
            row = self._rows[existing]
            if new.on_conflict == "join" or row.run_id == new.started.run_id:
                return row, False
            if new.on_conflict == "reject":
                raise DuplicateRun(new.business_id, row.run_id, row.shown_status)
            if not row.ended:
                self._deliver(row, store.Posting(row.run_id, CancelRequested(at=0, reason="replaced")), new.created_at)
            self._rows[row.no] = replace(self._rows[row.no], business_id="")
        row = self._insert(new)
        for child in operation.children:
            self._insert(child)
        return row, True

    def _insert(self, new: store.NewRun) -> RunRow:
        at, no = new.created_at, self._last_no + 1
        self._last_no = no
        row = RunRow(
            no=no,
            run_id=new.started.run_id,
            workflow=new.started.workflow,
            status="running" if new.owner else "ready",
            business_id=new.business_id,
            generation=new.started.generation,
            epoch=1 if new.owner else 0,
            owner=new.owner,
            ready_at=at,
            priority=new.priority,
            concurrency_key=new.concurrency_key,
            concurrency=new.concurrency,
            parent=new.started.parent,
            parent_path=new.started.parent_path,
            created_at=at,
        )
        self._rows[no] = row
        self._numbers[row.run_id] = no
        if new.business_id:
            self._business[new.business_id] = no
        self._journals[no] = [new.started, *new.history]
        self._inboxes[no] = []
        self._set_attributes(no, store.attributes_of(new.history))
        return row

    def _append(self, operation: store.Append) -> None:
        row = self._rows.get(operation.no)
        if row is None:
            raise Fenced(operation.no, operation.epoch, "there is no such run")
        journal = self._journals[operation.no]
        if row.epoch != operation.epoch or not row.owner:
            raise Fenced(row.run_id, operation.epoch, f"the epoch is {row.epoch} now")
        if operation.head not in (len(journal), ANY_HEAD):
            raise Fenced(row.run_id, operation.epoch, f"the journal ends at {len(journal)}, not at {operation.head}")
        self._refuse_if_full(operation.postings, row.no, set(operation.consumed))
        journal.extend(operation.events)
        if operation.consumed:
            gone = set(operation.consumed)
            self._inboxes[row.no] = [letter for letter in self._inboxes[row.no] if letter.id not in gone]
        for child in operation.children:
            if child.started.run_id not in self._numbers:
                self._insert(child)
        for posting in operation.postings:
            self._post_quietly(posting, operation.now)
        for task in operation.tasks_opened:
            self._tasks[row.no, task.path] = task
        for path in operation.tasks_closed:
            self._tasks.pop((row.no, path), None)
        self._set_attributes(row.no, operation.attributes)
        if operation.change is not None:
            self._change(row.no, operation.change, operation.now)

    def _change(self, no: int, change: store.Change, now: int) -> None:
        row = self._rows[no]
        status = change.status
        if status == "waiting" and (self._inboxes[no] or (change.wake_at and change.wake_at <= now)):
            status = "ready"
        self._rows[no] = replace(
            row,
            status=status,
            owner="" if change.release else row.owner,
            ready_at=now,
            wake_at=change.wake_at,
            detail=change.detail,
            ended_at=change.ended_at,
            generation=row.generation if change.generation is None else change.generation,
            first_seq=row.first_seq if change.first_seq is None else change.first_seq,
        )
        if change.alert:
            self._add_alert(self._rows[no], now)
        if status in ENDED:
            self._tasks = {key: task for key, task in self._tasks.items() if key[0] != no}

    def _post(self, operation: store.Post) -> RunRow:
        posting = operation.posting
        row = self.run(posting.to)
        if row is None:
            raise UnknownName("run", posting.to, self._numbers)
        if row.ended:
            if (row.no, posting.key) in self._keys:  # it arrived in time, and this is its repetition
                return row
            raise UsageError(f"run {row.run_id} is {row.status}; nothing was sent")
        self._refuse_if_full([posting])
        self._deliver(row, posting, operation.now)
        return self._rows[row.no]

    def _post_quietly(self, posting: store.Posting, now: int) -> None:
        row = self.run(posting.to)
        if row is not None and not row.ended:
            self._deliver(row, posting, now)

    def _refuse_if_full(
        self, postings: Sequence[store.Posting], reader: int = 0, consumed: Set[int] = frozenset()
    ) -> None:
        """Raise InboxFull if one of them would find a full inbox, after the reader's letters were consumed."""
        waiting: dict[int, int] = {}
        sent: set[tuple[int, str]] = set()
        for posting in postings:
            row = self.run(posting.to)
            if row is None or row.ended or (row.no, posting.key) in self._keys or (row.no, posting.key) in sent:
                continue
            gone = consumed if row.no == reader else ()
            unread = waiting.get(row.no, sum(letter.id not in gone for letter in self._inboxes[row.no]))
            if posting.bounded and unread >= INBOX_MAX:
                raise InboxFull(row.run_id, INBOX_MAX)
            waiting[row.no] = unread + 1
            if posting.key:
                sent.add((row.no, posting.key))

    def _deliver(self, row: RunRow, posting: store.Posting, now: int) -> None:
        if (row.no, posting.key) in self._keys:
            return
        inbox = self._inboxes[row.no]
        if posting.key:
            self._keys.add((row.no, posting.key))
        self._letter_id += 1
        inbox.append(Letter(self._letter_id, posting.event, posting.generation))
        if row.status == "waiting":
            self._rows[row.no] = replace(row, status="ready", ready_at=now)

    def _claim(self, operation: store.Claim) -> list[RunRow]:
        now, before = operation.now, (dict(self._rows), dict(self._owners))
        expired = {each.owner for each in self._owners.values() if each.expires_at < now} | set(operation.dead)
        for no, row in self._rows.items():
            if row.status == "waiting" and row.wake_at and row.wake_at <= now:
                self._rows[no] = replace(row, status="ready", ready_at=row.wake_at)
            elif row.status == "running" and row.owner in expired:
                self._rows[no] = replace(row, status="ready", owner="", ready_at=now)
        for owner in expired:
            self._owners.pop(owner, None)
        claimed: list[RunRow] = []
        ready = [row for row in self._rows.values() if row.status == "ready"]
        for row in sorted(ready, key=lambda row: (-row.priority, row.ready_at, row.no)):
            if len(claimed) >= operation.limit:
                break
            if self._over_concurrency(row) or (operation.family and row.root not in operation.family):
                continue
            taken = replace(row, status="running", owner=operation.owner, epoch=row.epoch + 1)
            self._rows[row.no] = taken
            claimed.append(taken)
        if (self._rows, self._owners) == before:
            self._version -= 1  # there was nothing to commit
        return claimed

    def _over_concurrency(self, row: RunRow) -> bool:
        if not row.concurrency or row.epoch:
            return False
        key = row.concurrency_key
        under_way = sum(
            1
            for each in self._rows.values()
            if each.concurrency_key == key and each.concurrency and each.epoch and not each.ended
        )
        return under_way >= row.concurrency

    def _renew(self, operation: store.Renew) -> None:
        self._owners[operation.owner.owner] = operation.owner

    def _retire(self, operation: store.Retire) -> None:
        self._owners.pop(operation.owner, None)
        for no, row in self._rows.items():
            if row.status == "running" and row.owner == operation.owner:
                self._rows[no] = replace(row, status="ready", owner="", ready_at=operation.now)

    def _reclaim(self, operation: store.Reclaim) -> RunRow | None:
        row = self._rows.get(operation.no)
        if row is None or row.owner != operation.owner or row.status != "running":
            return None
        self._rows[row.no] = replace(row, epoch=row.epoch + 1)
        return self._rows[row.no]

    def _unblock(self, operation: store.Unblock) -> int:
        blocked = [
            row for row in self._rows.values() if row.status == "blocked" and operation.run_id in ("", row.run_id)
        ]
        for row in blocked:
            self._rows[row.no] = replace(row, status="ready", ready_at=operation.now, detail="")
        if not blocked:
            self._version -= 1  # there was nothing to commit
        return len(blocked)

    def _terminate(self, operation: store.Terminate) -> bool:
        no = self._numbers.get(operation.run_id)
        if no is None:
            raise UnknownName("run", operation.run_id, self._numbers)
        row = self._rows[no]
        if row.ended:
            return False
        self._journals[row.no].append(RunCancelled(at=operation.now, reason=operation.reason))
        self._rows[row.no] = replace(row, epoch=row.epoch + 1)
        self._change(row.no, store.Change("cancelled", ended_at=operation.now, detail=operation.reason), operation.now)
        if row.parent:
            self._post_quietly(ended_child(row, operation), operation.now)
        return True

    # --- reads ----------------------------------------------------------------------------------------------------

    def events(self, no: int, first_seq: int = 1) -> list[AnyEvent]:
        return self._journals.get(no, [])[first_seq - 1 :]

    def last_event(self, no: int) -> AnyEvent:
        if no not in self._journals:
            raise no_such_run(no)
        return self._journals[no][-1]

    def letters(self, no: int) -> list[Letter]:
        return list(self._inboxes.get(no, []))

    def mail(self, owner: str) -> list[int]:
        return [no for no, inbox in self._inboxes.items() if inbox and self._rows[no].owner == owner]

    def next_due(self, after: int = 0) -> int:
        due = [row.wake_at for row in self._rows.values() if row.status == "waiting"]
        due += [row.ready_at for row in self._rows.values() if row.status == "ready"]
        return min((at for at in due if at > after), default=0)

    def owners(self) -> list[OwnerRow]:
        unlisted = {row.owner for row in self._rows.values() if row.owner} - set(self._owners)
        ghosts = [OwnerRow(owner, "", 0, 0) for owner in unlisted]
        return sorted([*self._owners.values(), *ghosts], key=lambda each: each.owner)

    def epoch(self, no: int) -> int:
        row = self._rows.get(no)
        return row.epoch if row is not None and row.owner else 0

    def version(self) -> int:
        return self._version


def ended_child(row: RunRow, operation: store.Terminate) -> store.Posting:
    """Tells the parent of a run that was ended from outside."""
    event = ChildEnded(at=operation.now, path=row.parent_path, run_id=row.run_id, status="cancelled")
    return store.Posting(row.parent, event, key=f"ended:{row.run_id}")
