"""The memory store is the model of the SQLite store: the same operations, in any mixture, show the same afterwards.

Hypothesis picks the operations, good ones and refused ones, alone and in batches, with clients that are reopened in
between; after each, all that can be read of both stores is compared.
"""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cadenza.durable.events import CancelRequested, Outcome
from cadenza.engine.filter import Condition, Filter
from cadenza.engine.memory import MemoryStore
from cadenza.engine.sqlite.store import SQLiteStore
from cadenza.engine.store import (
    ENDED,
    Append,
    Change,
    Claim,
    Create,
    NewRun,
    Operation,
    OwnerRow,
    Post,
    Posting,
    Reclaim,
    Renew,
    Retire,
    RunRow,
    Status,
    Terminate,
    Unblock,
)
from cadenza.engine.upkeep import DropAlert, Purge, TakeAlert
from tests.conformance.stores import EVERYTHING, NOW, SECOND, Client, completed, dump, message, new_run, task

EXAMPLES = 600 if os.environ.get("CADENZA_DEEP") else 40
UNKNOWN_LETTER = 1_000_000
INBOX_MAX = 3
BLOB_BYTES_MIN = 16
TICK = SECOND

OWNERS = st.sampled_from(["one", "two", "three"])
ROOTS = st.sampled_from(["a", "b", "ab", "c"])
RUN_IDS = st.one_of(ROOTS, st.sampled_from(["a.1", "a.2", "b.1", "a.1.x", "c.9"]))
NAMES = st.one_of(RUN_IDS, st.sampled_from(["order", "nobody"]))
BUSINESS = st.sampled_from(["", "", "order", "bill"])
KEYS = st.sampled_from(["", "", "k", "j"])
PATHS = st.sampled_from(["@ask#1", "@ask#2"])
PAYLOADS = st.sampled_from([b"1", b'"' + b"x" * BLOB_BYTES_MIN + b'"', b'"' + b"x" * (BLOB_BYTES_MIN - 2) + b'"'])
PAYLOAD_OF_A_BLOB = b'"' + b"y" * BLOB_BYTES_MIN + b'"'
STATUSES: list[Status] = ["ready", "running", "waiting", "waiting", "blocked", "completed", "failed", "cancelled"]
ATTRIBUTES = st.tuples(st.sampled_from(["p", "q"]), st.sampled_from([None, True, 1, 2.5, "", "1", "é"]))
CONDITIONS = st.builds(
    Condition,
    st.sampled_from(["p", "q"]),
    st.sampled_from(["=", "!=", "<", "<=", ">", ">="]),
    st.sampled_from([False, 1, 1.0, 2, "", "1", "z"]),
)
OFF_BY = st.sampled_from([0] * 12 + [-1, 1])


@st.composite
def letters(draw: st.DrawFn) -> Outcome:
    if draw(st.booleans()):
        return message(draw(st.sampled_from(["x", "y"])), draw(PAYLOADS))
    return CancelRequested(at=NOW, reason="test")


@st.composite
def postings(draw: st.DrawFn) -> Posting:
    return Posting(draw(NAMES), draw(letters()), draw(KEYS), draw(st.integers(-1, 1)), bounded=draw(st.booleans()))


@st.composite
def new_runs(draw: st.DrawFn, now: int, child_of: str = "") -> NewRun:
    """Any new run; a child has no business id."""
    run_id = f"{child_of}.1" if child_of else draw(RUN_IDS)
    concurrency = draw(st.sampled_from([0, 0, 1, 2]))
    return new_run(
        run_id,
        at=now,
        workflow=draw(st.sampled_from(["m:flow", "m:other"])),
        input=draw(PAYLOADS),
        parent=run_id.rpartition(".")[0],
        parent_path="@run:flow#1",
        business_id="" if child_of else draw(BUSINESS),
        on_conflict=draw(st.sampled_from(["reject", "join", "replace"])),
        priority=draw(st.integers(-1, 1)),
        history=draw(st.sampled_from([(), (), (completed(value=PAYLOAD_OF_A_BLOB, at=now + 1),)])),
        concurrency=concurrency,
        concurrency_key=draw(st.sampled_from(["p", "q"])) if concurrency else "",
        owner=draw(st.sampled_from(["", "one", "two"])),
    )


@st.composite
def changes(draw: st.DrawFn, now: int) -> Change:
    status = draw(st.sampled_from(STATUSES))
    return Change(
        status,
        release=status != "running",
        wake_at=draw(st.sampled_from([0, now - TICK, now, now + TICK, now + 5 * TICK])) if status == "waiting" else 0,
        detail=draw(st.sampled_from(["", "because"])),
        ended_at=now if status in ENDED else 0,
        generation=draw(st.sampled_from([None, 1])),
        first_seq=draw(st.sampled_from([None, 2])),
        alert=draw(st.booleans()),
    )


class BothStores(RuleBasedStateMachine):
    """Drives a memory store and a SQLite store alike."""

    def __init__(self) -> None:
        super().__init__()
        in_memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.folder = Path(tempfile.mkdtemp(prefix="cadenza-model-", dir=in_memory))
        self.small = [
            mock.patch("cadenza.engine.memory.INBOX_MAX", INBOX_MAX),
            mock.patch("cadenza.engine.sqlite.operations.INBOX_MAX", INBOX_MAX),
            mock.patch("cadenza.engine.sqlite.operations.BLOB_BYTES_MIN", BLOB_BYTES_MIN),
            mock.patch("cadenza.engine.sqlite.bulk.BLOB_BYTES_MIN", BLOB_BYTES_MIN),
            mock.patch("cadenza.engine.sqlite.bulk.APPENDS_MIN", 2),
            mock.patch("cadenza.engine.sqlite.commit.APPENDS_MIN", 2),
        ]
        for each in self.small:
            each.start()
        self.model = Client(MemoryStore(), inline=True)
        self.real = Client(SQLiteStore(self.folder / "store.db"))
        self.now = NOW
        self.before: dict[int, RunRow] = {}
        self.letter_ids: dict[int, int] = {}
        self.batches = 0

    def teardown(self) -> None:
        self.model.close()
        self.real.close()
        for each in self.small:
            each.stop()
        shutil.rmtree(self.folder)

    def both(self, *operations: Operation[Any]) -> None:
        """The same operations on both, as one batch each; results and refusals must be the same."""
        for row in self.rows:
            pairs = zip(self.model.store.letters(row.no), self.real.store.letters(row.no), strict=True)
            self.letter_ids |= {ours.id: theirs.id for ours, theirs in pairs}
        expected = [_shown(each) for each in self.model.batch(operations)]
        self.batches += 1
        translated = [self.translated(each) for each in operations]
        assert [_shown(each) for each in self.real.batch(translated, inline=self.batches % 2 == 0)] == expected

    def translated(self, operation: Operation[Any]) -> Operation[Any]:
        """The same for the SQLite store, which may number letters with gaps."""
        if not isinstance(operation, Append):
            return operation
        consumed = tuple(self.letter_ids.get(letter, 0) for letter in operation.consumed)
        return msgspec.structs.replace(operation, consumed=consumed)

    @property
    def rows(self) -> list[RunRow]:
        return self.model.store.runs(EVERYTHING)

    # --- operations -----------------------------------------------------------------------------------------------

    def an_append(self, data: st.DataObject, heads: dict[int, int] | None = None) -> Append:
        """Mostly one that its run's owner would make; now and then one that is stale, or has too many letters."""
        running = [row for row in self.rows if row.status == "running"]
        row = data.draw(st.sampled_from(running or self.rows))
        head = len(self.model.store.events(row.no)) + (heads or {}).get(row.no, 0)
        unread = [letter.id for letter in self.model.store.letters(row.no)]
        some_events = data.draw(st.lists(PAYLOADS, max_size=2))
        if heads is not None:
            heads[row.no] = heads.get(row.no, 0) + len(some_events)
        plain = Append(
            no=row.no,
            epoch=row.epoch + data.draw(OFF_BY),
            head=head + data.draw(OFF_BY),
            now=self.now,
            events=tuple(completed(f"s#{head + each}", value) for each, value in enumerate(some_events)),
        )
        if heads is not None and data.draw(st.booleans()):
            return plain
        return msgspec.structs.replace(
            plain,
            consumed=tuple(data.draw(st.lists(st.sampled_from([*unread, UNKNOWN_LETTER]), max_size=3))),
            postings=tuple(data.draw(st.lists(postings(), max_size=2))),
            children=tuple(data.draw(st.lists(new_runs(self.now, row.run_id), max_size=1))),
            tasks_opened=tuple(task(row.run_id, path, self.now) for path in data.draw(st.lists(PATHS, max_size=1))),
            tasks_closed=tuple(data.draw(st.lists(PATHS, max_size=1))),
            attributes=tuple(data.draw(st.lists(ATTRIBUTES, max_size=2))),
            change=data.draw(st.one_of(st.none(), changes(self.now))),
        )

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        for _ in range(3):
            self.create(data)

    @rule(data=st.data())
    def create(self, data: st.DataObject) -> None:
        new = data.draw(new_runs(self.now))
        self.both(Create(new))

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def append(self, data: st.DataObject) -> None:
        self.both(self.an_append(data))

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def append_many(self, data: st.DataObject) -> None:
        heads: dict[int, int] = {}
        several: list[Operation[Any]] = [self.an_append(data, heads) for _ in range(data.draw(st.integers(2, 6)))]
        several.insert(1, Create(data.draw(new_runs(self.now))))
        several.append(Claim(data.draw(OWNERS), 1, self.now))
        self.both(*several)

    @rule(posting=postings())
    def post(self, posting: Posting) -> None:
        self.both(Post(posting, self.now))

    @rule(
        owner=OWNERS,
        limit=st.integers(0, 4),
        dead=st.sampled_from([(), (), ("one",), ("two", "three")]),
        family=st.sampled_from([(), (), ("a",), ("ab", "b")]),
    )
    def claim(self, owner: str, limit: int, dead: tuple[str, ...], family: tuple[str, ...]) -> None:
        self.both(Claim(owner, limit, self.now, dead, family))

    @rule(owner=OWNERS, lease=st.sampled_from([0, TICK, 9 * TICK]))
    def renew(self, owner: str, lease: int) -> None:
        self.both(Renew(OwnerRow(owner, "here", 1, self.now + lease)))

    @rule(owner=OWNERS)
    def retire(self, owner: str) -> None:
        self.both(Retire(owner, self.now))

    @rule(no=st.integers(1, 12), owner=OWNERS)
    def reclaim(self, no: int, owner: str) -> None:
        self.both(Reclaim(no, owner))

    @rule(run_id=st.one_of(st.just(""), NAMES))
    def unblock(self, run_id: str) -> None:
        self.both(Unblock(run_id, self.now))

    @rule(run_id=NAMES)
    def terminate(self, run_id: str) -> None:
        self.both(Terminate(run_id, "test", self.now))

    @rule(data=st.data())
    def purge(self, data: st.DataObject) -> None:
        filter = Filter(
            status=tuple(data.draw(st.lists(st.sampled_from(STATUSES), max_size=1))),
            ended_before=data.draw(st.sampled_from([0, self.now, self.now - TICK])),
            attributes=tuple(data.draw(st.lists(CONDITIONS, max_size=1))),
            limit=data.draw(st.integers(1, 3)),
        )
        self.both(Purge(filter))

    @rule(several=st.lists(CONDITIONS, min_size=1, max_size=2), purgeable=st.booleans())
    def search(self, several: list[Condition], purgeable: bool) -> None:
        filter = Filter(attributes=tuple(several), purgeable=purgeable)
        assert self.real.store.runs(filter) == self.model.store.runs(filter)

    @rule(id=st.integers(1, 4), attempts=st.integers(0, 1), drop=st.booleans())
    def alert(self, id: int, attempts: int, drop: bool) -> None:
        self.both(TakeAlert(id, attempts, self.now + TICK), *([DropAlert(id)] if drop else []))

    @rule(ticks=st.integers(1, 4))
    def time_passes(self, ticks: int) -> None:
        self.now += ticks * TICK

    @rule()
    def reopen(self) -> None:
        self.real.close()
        self.real = Client(SQLiteStore(self.folder / "store.db"))

    # --- what holds always ----------------------------------------------------------------------------------------

    @invariant()
    def both_show_the_same(self) -> None:
        expected = _comparable(self.model)
        for what, found in _comparable(self.real).items():
            assert found == expected[what], f"{what}: {found}\nexpected: {expected[what]}"

    @invariant()
    def rows_make_sense(self) -> None:
        rows = {row.no: row for row in self.rows}
        for row in rows.values():
            before = self.before.get(row.no)
            assert (row.owner != "") == (row.status == "running"), row
            assert before is None or before.epoch <= row.epoch, "an epoch went back"
            assert before is None or not before.ended or before.status == row.status, "an ended run came back"
            assert row.status != "waiting" or not self.model.store.letters(row.no), "a waiting run has unread letters"
        business = [row.business_id for row in rows.values() if row.business_id]
        assert len(business) == len(set(business))
        self.before = rows


def _comparable(client: Client) -> dict[str, Any]:
    shown = dump(client.store)
    shown["inboxes"] = {
        run_id: [(letter.event, letter.generation) for letter in letters]
        for run_id, letters in shown["inboxes"].items()
    }
    return shown


def _shown(settled: tuple[Any, Exception | None]) -> Any:
    """A result, or the kind of refusal and what it is about."""
    result, error = settled
    if error is None:
        return result
    fields = {name: value for name, value in vars(error).items() if name in ("business_id", "run_id", "name", "epoch")}
    return type(error), fields


BothStores.TestCase.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=30,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # thirty steps are read faster than they are shrunk
)
TestBothStores = BothStores.TestCase
