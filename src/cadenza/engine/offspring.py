"""The children of a fork: what becomes of those that had not ended where the fork leaves its origin.

A child that has completed since is not run again (splice.py). One that goes on, or has failed since, is forked with its
parent: its journal is copied up to now, so that what it did is not done once more. It begins anew only if it is the
path at which the fork begins, was started after that, or if nothing after the cut is to be copied. Either way it has
the messages of which the parent's copied journal says that they were sent; what the origin sent it later, the fork
sends by itself.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from cadenza.durable import codec, commands, events
from cadenza.durable.children import child_run_id
from cadenza.durable.define import find_workflow
from cadenza.durable.versioning import ENGINE_FLAGS
from cadenza.engine.dispatch import new_run
from cadenza.engine.redoing import done_again
from cadenza.engine.splice import Cut, Splice, Spliced
from cadenza.engine.store import NewRun, RunRow, Store
from cadenza.engine.what_ended import cut_before_end

Word = tuple[str, str]
"""A message's name and the hash of its value."""


class Offspring:
    """Makes the journals of a fork's open children, and of theirs.

    Attributes:
        continued: journals of children that go on, each with the run that it was copied from.
        begun: children that begin anew, and have messages already.
        done_again: irreversible work of the continued ones that would be done once more.
    """

    def __init__(self, store: Store, now: int) -> None:
        self._store, self._now = store, now
        self.continued: list[tuple[Spliced, RunRow]] = []
        self.begun: list[NewRun] = []
        self.done_again: list[str] = []

    def of(self, row: RunRow, spliced: Spliced, cut: Cut) -> set[str]:
        """Take in the open children of ``spliced``, which was copied from ``row``; the paths of those that go on."""
        paths: set[str] = set()
        for command in spliced.open:
            if isinstance(command, commands.StartChild) and (child := self._store.run(command.run_id)) is not None:
                anew = command.path == cut.path or cut.late == "nothing" or command.path not in spliced.under_way
                if self._take(row, spliced, command, child, cut, anew=anew):
                    paths.add(command.path)
        return paths

    def _take(
        self, row: RunRow, parent: Spliced, command: commands.StartChild, child: RunRow, cut: Cut, *, anew: bool
    ) -> bool:
        started = parent.started
        run_id = child_run_id(started.run_id, started.generation, command.path)
        sent = _sent(parent, child.run_id)
        whole = self._store.events(child.no)
        letters = [each.event for each in self._store.letters(child.no)]
        words = [each for each in [*whole, *letters] if _from(each, row)]
        place = len(whole) if anew else _place(whole, row, sent.copy())
        if anew or place <= child.first_seq - 1:
            self._begin(command, run_id, started.run_id, child, _first(words, sent))
            return False
        journal = whole[child.first_seq - 1 :]
        at = _cut(journal, place - (child.first_seq - 1), cut.how)
        read = Counter(_word(each) for each in whole[: child.first_seq - 1 + at.index] if _from(each, row))
        workflow = find_workflow(child.workflow)
        copied = Splice(self._store, child, journal, workflow, at, {}).make(
            run_id, self._now, started.run_id, command.path
        )
        if copied.undone:
            self._begin(command, run_id, started.run_id, child, _first(words, sent))
            return False
        again = _unread(words, sent, read)
        if cut.keep_messages:
            later = [*whole[child.first_seq - 1 + at.index :], *letters]
            again += [each for each in later if isinstance(each, events.MessageReceived) and not _from(each, row)]
        last = copied.history[-1].at
        copied = msgspec.structs.replace(
            copied, history=(*copied.history, *(msgspec.structs.replace(each, at=last) for each in again))
        )
        self.continued.append((copied, child))
        paths = self.of(child, copied, at)
        self.done_again += [
            f"{child.run_id}:{path}" if ":" not in path.partition(" ")[0] else path
            for path in done_again(self._store, journal, copied, paths)
        ]
        return True

    def _begin(
        self,
        command: commands.StartChild,
        run_id: str,
        parent: str,
        child: RunRow,
        words: list[events.MessageReceived],
    ) -> None:
        """Without messages, the engine starts it when it takes up the parent."""
        if not words:
            return
        started = events.RunStarted(
            at=self._now,
            run_id=run_id,
            workflow=command.name,
            input=command.input,
            flags=ENGINE_FLAGS,
            parent=parent,
            parent_path=command.path,
        )
        history = tuple(msgspec.structs.replace(each, at=self._now) for each in words)
        self.begun.append(new_run(started, child.priority, history=history))


def _sent(parent: Spliced, to: str) -> Counter[Word]:
    """What the parent's copied journal says was sent to this run."""
    return Counter(
        (each.name, each.input_hash)
        for each in parent.history
        if isinstance(each, events.MessageSent) and each.to == to and each.failure is None
    )


def _from(event: Any, row: RunRow) -> bool:
    return isinstance(event, events.MessageReceived) and event.sender == row.run_id


def _word(event: Any) -> Word:
    return event.name, codec.fingerprint(codec.decode(event.value, Any, "the message"), "the message")


def _place(whole: list[events.AnyEvent], row: RunRow, sent: Counter[Word]) -> int:
    """How many of a child's events do not depend on what its parent did after the cut."""
    for index, event in enumerate(whole):
        if isinstance(event, events.CancelRequested):
            return index
        if _from(event, row):
            word = _word(event)
            if not sent[word]:
                return index
            sent[word] -= 1
    return len(whole)


def _cut(journal: list[events.AnyEvent], place: int, how: str) -> Cut:
    """Where a child's journal is cut: at ``place``, or before what ended it."""
    if place == len(journal) and isinstance(journal[-1], events.RunFailed | events.RunCancelled):
        found = cut_before_end(journal)
        return msgspec.structs.replace(found, keep_messages=False, how=how)
    return Cut(place, late="nothing" if place < len(journal) else "everything", keep_memos=True, how=how)


def _first(words: list[Any], sent: Counter[Word]) -> list[events.MessageReceived]:
    """Of all that the parent has ever sent, what it had sent by then."""
    return _unread(words, sent, Counter())


def _unread(words: list[Any], sent: Counter[Word], read: Counter[Word]) -> list[events.MessageReceived]:
    missing = sent - read
    found: list[events.MessageReceived] = []
    skipped = read.copy()
    for each in words:
        word = _word(each)
        if skipped[word]:
            skipped[word] -= 1
        elif missing[word]:
            missing[word] -= 1
            found.append(each)
    return found
