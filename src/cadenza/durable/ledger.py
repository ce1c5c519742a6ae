"""The effect ledger of a run: what was begun, tried, saved and asked, rebuilt from the journal's records.

It answers, after a crash, what may be done about a step that has no outcome: run it, run it again with the same key,
wait, find out, or ask a person (design.md section 4).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from cadenza.durable import events


@dataclass(slots=True)
class Entry:
    """What is known of one path that has no outcome yet."""

    attempts: int = 0
    retry_at: int = 0
    intent: bool = False
    by: str = ""
    doubt: str = ""
    doubt_memo: str = ""
    doubt_at: int = 0
    memos: dict[str, events.MemoSaved] = field(default_factory=dict[str, events.MemoSaved])
    memo_intents: dict[str, str] = field(default_factory=dict[str, str])


class Ledger:
    """Entries by path. ``note`` takes every event of the journal, in order, live and in replay."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.tasks: set[str] = set()
        self.children: dict[str, str] = {}
        self.cancels: set[str] = set()
        self.attributes: set[str] = set()
        self.updates: set[tuple[type[events.AnyEvent], str]] = set()

    @classmethod
    def of(cls, journal: Iterable[events.AnyEvent]) -> Ledger:
        """What is known after these events."""
        ledger = cls()
        for event in journal:
            ledger.note(event)
        return ledger

    def at(self, path: str) -> Entry | None:
        return self.entries.get(path)

    def open(self, path: str) -> Entry:
        """The entry of ``path``, made if there is none."""
        return self.entries.setdefault(path, Entry())

    def note(self, event: events.AnyEvent) -> None:
        match event:
            case events.StepCompleted(path=path) | events.StepFailed(path=path) | events.StepCancelled(path=path):
                self.entries.pop(path, None)
                self.tasks.discard(path)
            case events.TaskAnswered(path=path):
                self.tasks.discard(path)
            case events.StepIntent(path=path, attempt=attempt, by=by):
                entry = self.open(path)
                entry.intent, entry.attempts, entry.by = True, attempt - 1, by
            case events.AttemptFailed(path=path, attempt=attempt, retry_at=retry_at):
                entry = self.open(path)
                entry.attempts, entry.retry_at, entry.intent = attempt, retry_at, False
            case events.OutcomeInDoubt(path=path, at=at, reason=reason, memo=memo):
                entry = self.open(path)
                entry.doubt, entry.doubt_memo, entry.doubt_at = reason, memo, at
            case events.DoubtResolved(path=path, decision=decision, memo=memo):
                self._resolve(self.open(path), decision, memo)
            case events.MemoIntent(path=path, key=key, input_hash=hashed):
                self.open(path).memo_intents[key] = hashed
            case events.MemoSaved(path=path, key=key):
                entry = self.open(path)
                entry.memos[key] = event
                entry.memo_intents.pop(key, None)
            case events.MemosDiscarded(path=path, key=key):
                memos = self.open(path).memos
                for later in list(memos)[list(memos).index(key) :]:
                    del memos[later]
            case events.TaskOpened(path=path):
                self.tasks.add(path)
            case events.ChildStarted(path=path, run_id=run_id):
                self.children[path] = run_id
            case events.AttributesSet(path=path):
                self.attributes.add(path)
            case events.UpdateAccepted(id=id) | events.UpdateAnswered(id=id):
                self.updates.add((type(event), id))
            case events.CancelSent(path=path):
                self.cancels.add(path)
            case _:
                pass

    def _resolve(self, entry: Entry, decision: str, memo: str) -> None:
        entry.doubt = entry.doubt_memo = ""
        if decision == "not_done":
            if memo:
                entry.memo_intents.pop(memo, None)
            else:
                entry.intent = False
                entry.attempts += 1
