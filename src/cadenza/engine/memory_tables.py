"""What a store in memory keeps, and what is done with whole runs: finding, copying, importing and purging them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from cadenza.durable.events import AnyEvent, Scalar
from cadenza.engine import store, upkeep
from cadenza.engine.filter import Filter
from cadenza.engine.store import Letter, OpenTaskRow, RunRow, attributes_of
from cadenza.engine.upkeep import AlertRow
from cadenza.errors import UnknownName

replace = msgspec.structs.replace


class Tables:
    """Runs and all that belongs to them, in dictionaries by the run's number."""

    def __init__(self) -> None:
        self._rows: dict[int, RunRow] = {}
        self._numbers: dict[str, int] = {}
        self._business: dict[str, int] = {}
        self._journals: dict[int, list[AnyEvent]] = {}
        self._inboxes: dict[int, list[Letter]] = {}
        self._keys: set[tuple[int, str]] = set()
        self._tasks: dict[tuple[int, str], OpenTaskRow] = {}
        self._attributes: dict[int, dict[str, Scalar]] = {}
        self._alerts: dict[int, AlertRow] = {}
        self._last_alert = 0
        self._last_no = 0
        self._version: int = 0
        self._letter_id = 0

    def run(self, run_id: str) -> RunRow | None:
        no = self._numbers.get(run_id) or self._business.get(run_id)
        return None if no is None else self._rows[no]

    def runs(self, filter: Filter) -> list[RunRow]:
        return self._found(filter)[::-1][: filter.limit]

    def _found(self, filter: Filter) -> list[RunRow]:
        return [
            row
            for row in self._rows.values()
            if filter.admits(row, self._attributes.get(row.no, {}), self._rows.get(self._numbers.get(row.parent, 0)))
        ]

    def attributes(self, numbers: Sequence[int]) -> dict[int, dict[str, Scalar]]:
        return {no: dict(found) for no in numbers if (found := self._attributes.get(no))}

    def tasks(self, run_id: str = "") -> list[OpenTaskRow]:
        found = [
            (task.asked_at, no, path, task) for (no, path), task in self._tasks.items() if run_id in ("", task.run_id)
        ]
        return [task for *_, task in sorted(found, key=lambda each: each[:3])]

    def alerts(self, now: int, limit: int) -> list[AlertRow]:
        return [row for row in self._alerts.values() if row.due_at <= now][:limit]

    def _add_alert(self, row: RunRow, now: int) -> None:
        self._last_alert += 1
        no = self._last_alert
        self._alerts[no] = AlertRow(no, row.run_id, row.workflow, row.status, row.detail, now, due_at=now)

    def _takealert(self, operation: upkeep.TakeAlert) -> bool:
        row = self._alerts.get(operation.id)
        if row is None or row.attempts != operation.attempts:
            return False
        self._alerts[row.id] = replace(row, attempts=row.attempts + 1, due_at=operation.due_at)
        return True

    def _dropalert(self, operation: upkeep.DropAlert) -> None:
        self._alerts.pop(operation.id, None)

    def copies(self, run_id: str) -> list[store.RunCopy]:
        row = self.run(run_id)
        if row is None:
            raise UnknownName("run", run_id, self._numbers)
        rows = [row]
        for parent in rows:  # grows while it is read
            rows += [each for each in self._rows.values() if each.parent == parent.run_id]
        return [self._copy(each) for each in rows]

    def _copy(self, row: RunRow) -> store.RunCopy:
        unread = [store.Mail(letter.event, generation=letter.generation) for letter in self._inboxes[row.no]]
        seen = [store.Mail(None, key) for no, key in sorted(self._keys) if no == row.no]
        return store.RunCopy(row, tuple(self._journals[row.no]), (*seen, *unread), tuple(self.tasks(row.run_id)))

    def _import(self, operation: store.Import) -> None:
        rows = [copy.row for copy in operation.copies]
        for row in rows:
            self._refuse_if_here(row)
        for copy in operation.copies:
            no = self._last_no = self._last_no + 1
            row = self._rows[no] = replace(copy.row, no=no, owner="")
            self._numbers[row.run_id] = no
            if row.business_id:
                self._business[row.business_id] = no
            self._journals[no] = list(copy.events)
            self._set_attributes(no, attributes_of(copy.events))
            self._inboxes[no] = []
            for mail in copy.mail:
                if mail.key:
                    self._keys.add((no, mail.key))
                if mail.event is not None:
                    self._letter_id += 1
                    self._inboxes[no].append(Letter(self._letter_id, mail.event, mail.generation))
            self._tasks |= {(no, task.path): task for task in copy.tasks}

    def _refuse_if_here(self, row: RunRow) -> None:
        taken = self._numbers.get(row.run_id) or self._business.get(row.business_id)
        if taken is not None:
            raise store.taken(row, self._rows[taken])

    def _purge(self, operation: upkeep.Purge) -> upkeep.Purged:
        found = self._found(replace(operation.filter, purgeable=True))
        chosen = sorted(found, key=lambda row: (row.ended_at, row.no))[: operation.filter.limit]
        events = 0
        for row in chosen:
            events += len(self._journals.pop(row.no))
            for each in (self._rows, self._inboxes, self._attributes):
                each.pop(row.no, None)
            del self._numbers[row.run_id]
        gone = {row.no for row in chosen}
        self._keys = {key for key in self._keys if key[0] not in gone}
        self._tasks = {key: task for key, task in self._tasks.items() if key[0] not in gone}
        self._business = {id: no for id, no in self._business.items() if no not in gone}
        if not chosen:
            self._version -= 1  # there was nothing to commit
        return upkeep.Purged(tuple(row.run_id for row in chosen), events, len(found) > len(chosen))

    def _set_attributes(self, no: int, several: Sequence[tuple[str, Scalar | None]]) -> None:
        attributes = self._attributes.setdefault(no, {})
        for name, value in several:
            attributes.pop(name, None)
            if value is not None:
                attributes[name] = value
