"""What every store does: ownership and fences, the journal, letters, and the creation of runs.

Claims are in test_claims.py; that both stores agree on any mixture of operations, in test_model.py.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from cadenza.durable.events import (
    AnyEvent,
    AttributesSet,
    CancelRequested,
    Carried,
    ChildEnded,
    Forked,
    MemoSaved,
    RunCancelled,
    RunCompleted,
    RunContinued,
    RunStarted,
    StepCompleted,
    TaskOpened,
)
from cadenza.engine.store import (
    BLOB_BYTES_MIN,
    Append,
    Change,
    Claim,
    Create,
    Filter,
    OpenTaskRow,
    Operation,
    OwnerRow,
    Post,
    Posting,
    Reclaim,
    Renew,
    Retire,
    RunRow,
    Terminate,
    Unblock,
    perform,
)
from cadenza.errors import DuplicateRun, Fenced, InboxFull, StoreError, UnknownName, UsageError
from tests.conformance.stores import NOW, SECOND, Client, Stores, append, completed, dump, message, new_run, task

# --- ownership --------------------------------------------------------------------------------------------------------


def full_append(row: RunRow, head: int, child: str = "r1.child") -> Append:
    """An append with something in every field."""
    return append(
        row,
        head,
        completed("a#1"),
        completed("b#1"),
        consumed=(1,),
        postings=(Posting("other", message("told")),),
        children=(new_run(child, parent="r1"),),
        tasks_opened=(task(path="@ask#2"),),
        tasks_closed=("@ask#1",),
        change=Change("waiting", wake_at=NOW + SECOND, detail="resting"),
    )


def prepared(store: Client) -> RunRow:
    """A run with a letter and an open task, and another run that waits for mail."""
    store.leave(store.owned("other"), "waiting")
    row = store.owned()
    assert store.post("r1").run_id == "r1"
    store.append(row, TaskOpened(at=NOW, path="@ask#1", task=b"{}"), tasks_opened=(task(),))
    return row


def test_append_writes_all_that_belongs_together(store: Client) -> None:
    row = prepared(store)
    store.do(full_append(row, head=2))
    assert store.journal()[2:] == [completed("a#1"), completed("b#1")]
    assert store.inbox() == []
    assert [letter.event for letter in store.inbox("other")] == [message("told")]
    assert store.row("other").status == "ready"
    assert store.row("r1.child").parent == "r1"
    assert [each.path for each in store.store.tasks("r1")] == ["@ask#2"]
    after = store.row()
    assert (after.status, after.wake_at, after.detail, after.owner) == ("waiting", NOW + SECOND, "resting", "")
    assert after.epoch == row.epoch


@pytest.mark.parametrize(
    ("epoch", "head"), [(0, 2), (2, 2), (1, 1), (1, 3), (1, 0)], ids=["old", "future", "behind", "ahead", "empty"]
)
def test_stale_owner_or_head_writes_nothing(store: Client, epoch: int, head: int) -> None:
    row = msgspec.structs.replace(prepared(store), epoch=epoch)
    before = dump(store.store)
    with pytest.raises(Fenced):
        store.do(full_append(row, head))
    assert dump(store.store) == before


def test_released_run_takes_no_append_in_its_last_epoch(store: Client) -> None:
    row = store.owned()
    store.leave(row, "blocked")
    before = dump(store.store)
    with pytest.raises(Fenced):
        store.append(row, completed())
    assert dump(store.store) == before


def test_owner_that_was_replaced_writes_nothing(store: Client) -> None:
    old = store.owned(owner="one")
    store.do(Retire("one", NOW))
    (new,) = store.claim("two")
    assert (new.no, new.epoch) == (old.no, old.epoch + 1)
    with pytest.raises(Fenced):
        store.append(old, completed("old#1"))
    store.append(new, completed("new#1"))
    assert store.journal()[1:] == [completed("new#1")]


def test_append_to_a_run_that_is_not_there_is_fenced(store: Client) -> None:
    row = msgspec.structs.replace(store.owned(), no=77)
    with pytest.raises(Fenced):
        store.do(append(row, 1, completed()))


def test_refused_operations_fail_alone_in_their_batch(store: Client) -> None:
    row, other = prepared(store), store.owned("second")
    stale = msgspec.structs.replace(row, epoch=0)
    settled = store.batch(
        [
            append(other, 1, completed("first#1")),
            full_append(stale, 2),
            append(row, 2, completed("good#1")),
            full_append(row, 2),
            Create(new_run("third", business_id="taken")),
            Create(new_run("fourth", business_id="taken")),
            Post(Posting("nobody", message()), NOW),
            append(other, 2, completed("last#1")),
        ]
    )
    kinds = [type(error) for _, error in settled]
    nothing = type(None)
    assert kinds == [nothing, Fenced, nothing, Fenced, nothing, DuplicateRun, UnknownName, nothing]
    assert store.journal("second")[1:] == [completed("first#1"), completed("last#1")]
    assert store.journal("r1")[2:] == [completed("good#1")]
    assert store.store.run("r1.child") is None
    assert store.store.run("fourth") is None
    assert [each.path for each in store.store.tasks()] == ["@ask#1"]
    assert len(store.inbox("r1")) == 1
    assert store.inbox("other") == []
    assert store.row("r1").status == "running"


def test_each_of_many_small_appends_in_a_batch_has_its_own_fence(store: Client) -> None:
    rows = [store.owned(f"r{number}", "one" if number < 30 else "gone") for number in range(40)]
    store.do(Retire("gone", NOW))
    stale, ahead, behind, twice = rows[3], rows[5], rows[7], rows[9]
    store.append(behind, completed("before#1"))
    operations = [append(row, 1, completed("a#1"), completed("b#1")) for row in rows]
    operations[3] = append(msgspec.structs.replace(stale, epoch=stale.epoch - 1), 1, completed("stale#1"))
    operations[5] = append(ahead, 2, completed("ahead#1"))
    operations[11] = append(rows[11], 1, completed("a#1"), completed("b#1"), tasks_closed=("@ask#1",))
    operations += [
        append(twice, 3, completed("c#1")),
        append(twice, 3, completed("late#1")),
        append(rows[10], 1, completed("late#1")),
        append(rows[11], 1, completed("late#1")),
    ]
    settled = store.batch(operations)
    refused = [index for index, (_, error) in enumerate(settled) if isinstance(error, Fenced)]
    assert refused == [3, 5, 7, *range(30, 40), 41, 42, 43]
    assert all(error is None for index, (_, error) in enumerate(settled) if index not in refused)
    for number, row in enumerate(rows):
        written = {3: [], 5: [], 7: ["before#1"], 9: ["a#1", "b#1", "c#1"]}.get(number, ["a#1", "b#1"])
        found = [event.path for event in store.store.events(row.no, 2) if isinstance(event, StepCompleted)]
        assert found == (written if number < 30 else []), row.run_id


MOVES: dict[str, Callable[[RunRow], Operation[Any]]] = {
    "retire": lambda row: Retire(row.owner, NOW),
    "claim": lambda row: Claim("two", 1, NOW, dead=(row.owner,)),
    "reclaim": lambda row: Reclaim(row.no, row.owner),
    "terminate": lambda row: Terminate(row.run_id, "", NOW),
}


@pytest.mark.parametrize("move", MOVES)
def test_append_behind_what_moves_its_run_in_the_same_batch_is_refused(store: Client, move: str) -> None:
    rows = [store.owned(f"r{number}", f"w{number}") for number in range(20)]
    moves = [MOVES[move](row) for row in rows[10:]]
    first, second = ([append(row, 1, completed("a#1")) for row in part] for part in (rows[:10], rows[10:]))
    settled = store.batch([*first, *moves, *second])
    assert [type(error) for _, error in settled] == [type(None)] * 20 + [Fenced] * 10
    assert all(len(store.journal(row.run_id)) == 2 for row in rows[:10])
    assert all(completed("a#1") not in store.journal(row.run_id) for row in rows[10:])


def test_operation_that_fails_after_it_has_written_leaves_nothing(store: Client, small_inboxes: None) -> None:
    row, other = prepared(store), store.owned("second")
    for _ in range(3):
        store.post("other")
    full = append(
        row, 2, completed("torn#1"), consumed=(1,), children=(new_run("r1.child"),),
        postings=(Posting("other", message(), bounded=True),), change=Change("waiting"),
    )  # fmt: skip
    before = dump(store.store)
    settled = store.batch([append(other, 1, completed("a#1")), full, append(other, 2, completed("b#1"))])
    assert [type(error) for _, error in settled] == [type(None), InboxFull, type(None)]
    after = dump(store.store)
    assert after["journals"].pop("second")[1:] == [completed("a#1"), completed("b#1")]
    before["journals"].pop("second")
    before["last"].pop("second")
    after["last"].pop("second")
    assert after == before


@pytest.mark.parametrize("stores", ["sqlite", "sqlite, inline"], indirect=True)
def test_unwritable_operation_fails_alone_and_the_store_goes_on(stores: Stores) -> None:
    store = stores.client()
    row = store.owned()
    odd = append(row, 1, completed("a#1"), children=(new_run("r1.\ud800"),), now=NOW)
    good = append(row, 1, completed("b#1"))
    settled = store.batch([odd, Create(new_run("x", business_id="\ud800")), good])
    assert [type(error) for _, error in settled] == [StoreError, StoreError, type(None)]
    assert "surrogates not allowed" in str(settled[0][1])
    assert store.journal()[1:] == [completed("b#1")]
    assert store.do(Unblock("", NOW)) == 0


def test_results_come_in_the_order_of_submission_on_the_loop(stores: Stores) -> None:
    store = stores.client()

    async def main() -> list[int]:
        store.store.open(asyncio.get_running_loop()) if stores.kind == "memory" else None
        told: list[int] = []
        done = asyncio.Event()

        def tell(number: int) -> Callable[[Any, Exception | None], None]:
            def done_one(_: Any, error: Exception | None) -> None:
                assert error is None
                told.append(number)
                if len(told) == 50:
                    done.set()

            return done_one

        for number in range(50):
            store.store.submit(Create(new_run(f"r{number}")), tell(number))
        assert told == [], "a result came before submit had returned"
        async with asyncio.timeout(30):
            await done.wait()
        row = await perform(store.store, Create(new_run("last")))
        assert row[1]
        return told

    assert store.loop.run_until_complete(main()) == list(range(50))


# --- the journal ------------------------------------------------------------------------------------------------------


def test_journal_is_read_from_any_sequence_number(store: Client) -> None:
    row, neighbour = store.owned("r1"), store.owned("r2")
    written = [completed(f"s#{number}") for number in range(1, 6)]
    store.append(row, *written)
    store.append(neighbour, completed("n#1"))
    events = store.journal("r1")
    assert events[1:] == written
    assert store.store.events(row.no, 4) == written[2:]
    assert store.store.events(row.no, 7) == []
    assert store.store.last_event(row.no) == written[-1]
    assert store.store.last_event(neighbour.no) == completed("n#1")


LARGE = b'"' + b"x" * BLOB_BYTES_MIN + b'"'
LARGE_EVENTS: list[AnyEvent] = [
    completed(value=LARGE),
    message(value=LARGE),
    MemoSaved(at=NOW, path="s#1", key="k", value=LARGE),
    ChildEnded(at=NOW, path="c#1", run_id="r2", status="completed", value=LARGE),
    RunContinued(at=NOW, input=LARGE, carried=Carried()),
    RunStarted(at=NOW, run_id="r1", workflow="m:flow", input=LARGE, generation=1),
    RunCompleted(at=NOW, value=LARGE),
]


@pytest.mark.parametrize("event", LARGE_EVENTS, ids=lambda event: type(event).__name__)
def test_large_payloads_come_back_whole(stores: Stores, event: AnyEvent) -> None:
    store = stores.client()
    store.create("r0", input=LARGE)
    row = store.owned("r1")
    store.append(row, completed("small#1", value=LARGE[: BLOB_BYTES_MIN - 1]), event)
    store.post("r1", message(value=LARGE))
    for each in (store, stores.client()):
        assert each.journal("r1")[2] == each.store.last_event(row.no) == event
        assert each.journal("r0")[0] == new_run("r0", input=LARGE).started
        assert each.inbox("r1")[0].event == message(value=LARGE)


def test_change_of_generation_keeps_the_run_and_its_owner(store: Client) -> None:
    row = store.owned()
    store.append(row, completed(), change=Change("running", release=False, generation=1, first_seq=3))
    after = store.row()
    assert (after.status, after.owner, after.epoch) == ("running", "one", 1)
    assert (after.generation, after.first_seq) == (1, 3)
    store.append(row, completed("b#1"), change=Change("waiting"))
    assert (store.row().generation, store.row().first_seq) == (1, 3)


# --- letters ----------------------------------------------------------------------------------------------------------


def test_letters_are_read_in_the_order_of_arrival(store: Client) -> None:
    row = store.owned()
    for number in range(5):
        store.post("r1", message(f"m{number}"), generation=number - 1)
    letters = store.inbox()
    assert [letter.event for letter in letters] == [message(f"m{number}") for number in range(5)]
    assert [letter.generation for letter in letters] == [-1, 0, 1, 2, 3]
    assert [letter.id for letter in letters] == sorted({letter.id for letter in letters})
    store.append(row, consumed=(letters[3].id, letters[0].id))
    assert store.inbox() == [letters[1], letters[2], letters[4]]


def test_letter_with_a_known_key_is_dropped_also_after_it_was_read(store: Client) -> None:
    row, _ = store.owned("r1"), store.owned("r2")
    store.post("r1", message("first"), key="k")
    store.post("r1", message("second"), key="k")
    store.post("r2", message("elsewhere"), key="k")
    assert [letter.event for letter in store.inbox("r1")] == [message("first")]
    assert [letter.event for letter in store.inbox("r2")] == [message("elsewhere")]
    store.append(row, consumed=(store.inbox("r1")[0].id,))
    store.post("r1", message("third"), key="k")
    store.append(row, completed(), postings=(Posting("r2", message("again"), key="k"),))
    assert store.inbox("r1") == []
    assert len(store.inbox("r2")) == 1
    store.post("r1", message("fourth"), key="other")
    assert len(store.inbox("r1")) == 1


def test_letters_without_a_key_are_never_duplicates(store: Client) -> None:
    store.owned()
    store.post("r1")
    store.post("r1")
    assert len(store.inbox()) == 2


def test_letter_wakes_a_run_that_waits_and_no_other(store: Client) -> None:
    store.leave(store.owned("waits"), "waiting")
    store.leave(store.owned("blocked"), "blocked")
    store.owned("runs")
    for run_id in ("waits", "blocked", "runs"):
        store.post(run_id, now=NOW + 5)
    rows = {run_id: store.row(run_id) for run_id in ("waits", "blocked", "runs")}
    assert {run_id: row.status for run_id, row in rows.items()} == {
        "waits": "ready", "blocked": "blocked", "runs": "running",
    }  # fmt: skip
    assert rows["waits"].ready_at == NOW + 5
    assert store.store.mail("one") == [rows["runs"].no]


def test_duplicate_letter_wakes_nobody(store: Client) -> None:
    row = store.owned()
    store.post("r1", key="k")
    store.append(row, consumed=(store.inbox()[0].id,), change=Change("waiting"))
    store.post("r1", key="k")
    assert store.row().status == "waiting"


def test_parking_with_unread_letters_makes_the_run_ready(store: Client) -> None:
    row = store.owned()
    store.post("r1")
    store.leave(row, "waiting", now=NOW + 7)
    assert (store.row().status, store.row().owner, store.row().ready_at) == ("ready", "", NOW + 7)


def test_parking_while_reading_the_last_letter_parks(store: Client) -> None:
    row = store.owned()
    store.post("r1", key="k")
    store.append(row, message(), consumed=(store.inbox()[0].id,), change=Change("waiting"))
    assert store.row().status == "waiting"


@pytest.fixture
def small_inboxes(monkeypatch: pytest.MonkeyPatch) -> None:
    """An inbox holds three letters."""
    monkeypatch.setattr("cadenza.engine.memory.INBOX_MAX", 3)
    monkeypatch.setattr("cadenza.engine.sqlite.operations.INBOX_MAX", 3)


def test_full_inbox_refuses_bounded_letters_until_some_are_read(store: Client, small_inboxes: None) -> None:
    row = store.owned()
    for number in range(3):
        store.post("r1", key=f"k{number}", bounded=True)
    with pytest.raises(InboxFull):
        store.post("r1", bounded=True)
    store.post("r1", key="k1", bounded=True)  # known: it was accepted before
    assert len(store.inbox()) == 3
    store.post("r1", CancelRequested(at=NOW))  # what must get through is not bounded
    assert len(store.inbox()) == 4
    store.append(row, consumed=tuple(letter.id for letter in store.inbox()[:2]))
    store.post("r1", bounded=True)
    assert len(store.inbox()) == 3


def test_inbox_is_full_or_not_as_of_each_letter(store: Client, small_inboxes: None) -> None:
    row, other = store.owned(), store.owned("other")
    for number in range(3):
        store.post("r1", key=f"k{number}")
    bounded = Posting("r1", message(), bounded=True)
    with pytest.raises(InboxFull):
        store.append(other, postings=(bounded,))
    first, *_ = store.inbox()
    store.append(row, consumed=(first.id,), postings=(bounded,))  # it made room itself
    assert len(store.inbox()) == 3
    with pytest.raises(InboxFull):
        store.append(row, consumed=(store.inbox()[0].id,), postings=(bounded, bounded))
    known = Posting("r1", message(), key="k2", bounded=True)
    new = Posting("r1", message(), key="new", bounded=True)
    store.append(row, consumed=(store.inbox()[0].id,), postings=(known, new, new))
    assert len(store.inbox()) == 3


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_run_that_has_ended_takes_no_letters(store: Client, status: Any) -> None:
    sender = store.owned("sender")
    store.end(store.owned(), status)
    with pytest.raises(UsageError, match=f"r1 is {status}"):
        store.post("r1")
    store.append(sender, completed(), postings=(Posting("r1", message()), Posting("nobody", message())))
    assert store.inbox() == []


def test_letter_finds_its_run_by_run_id_or_business_id(store: Client) -> None:
    store.owned(business_id="order-17")
    assert store.post("order-17").run_id == "r1"
    with pytest.raises(UnknownName):
        store.post("order-18")


# --- creation ---------------------------------------------------------------------------------------------------------


def test_new_run_is_ready_or_belongs_to_who_created_it(store: Client) -> None:
    ready = store.create("r1", priority=3, concurrency_key="k", concurrency=2)
    assert (ready.status, ready.epoch, ready.owner, ready.shown_status) == ("ready", 0, "", "pending")
    assert (ready.priority, ready.concurrency_key, ready.concurrency) == (3, "k", 2)
    taken = store.owned("r2", parent="r1", parent_path="@run:flow#1")
    assert (taken.status, taken.epoch, taken.owner, taken.shown_status) == ("running", 1, "one", "running")
    assert (taken.parent, taken.parent_path) == ("r1", "@run:flow#1")
    assert [store.row("r1"), store.row("r2")] == [ready, taken]
    assert store.journal("r1") == [new_run("r1").started]


def test_business_id_is_unique_unless_asked_otherwise(store: Client) -> None:
    first = store.create("r1", business_id="order")
    with pytest.raises(DuplicateRun) as refused:
        store.create("r2", business_id="order")
    assert (refused.value.business_id, refused.value.run_id) == ("order", "r1")
    assert store.do(Create(new_run("r3", business_id="order", on_conflict="join"))) == (first, False)
    assert [row.run_id for row in store.store.runs(Filter())] == ["r1"]
    assert store.create("r4", business_id="another").no != first.no


@pytest.mark.parametrize("ended", [False, True])
def test_replacing_a_run_cancels_it_and_takes_its_id(store: Client, ended: bool) -> None:
    old = store.owned("r1", business_id="order")
    store.leave(old, "completed", ended_at=NOW) if ended else store.leave(old, "waiting")
    new = store.create("r2", business_id="order", on_conflict="replace", at=NOW + 9)
    assert store.row("order") == new
    assert store.row("r1").business_id == ""
    assert [type(letter.event) for letter in store.inbox("r1")] == ([] if ended else [CancelRequested])
    assert store.row("r1").status == ("completed" if ended else "ready")
    third = store.create("r3", business_id="order", on_conflict="replace")
    assert store.row("order") == third


def test_ended_run_keeps_its_business_id(store: Client) -> None:
    store.end(store.owned(business_id="order"))
    with pytest.raises(DuplicateRun, match="completed"):
        store.create("r2", business_id="order")
    row, is_new = store.do(Create(new_run("r3", business_id="order", on_conflict="join")))
    assert (row.run_id, is_new) == ("r1", False)


def test_creating_the_same_run_again_changes_nothing(store: Client) -> None:
    """After a write of which nobody knows whether it was done, it is done again."""
    row = store.create(business_id="order")
    store.claim()
    before = dump(store.store)
    again, is_new = store.do(Create(new_run("r1", business_id="order")))
    assert (again.no, is_new) == (row.no, False)
    assert dump(store.store) == before
    parent = store.owned("p")
    store.append(parent, completed(), children=(new_run("r1"),))
    assert store.journal("r1") == before["journals"]["r1"]


# --- the operator -----------------------------------------------------------------------------------------------------


def test_blocked_runs_are_unblocked_one_or_all(store: Client) -> None:
    for run_id in ("r1", "r2", "r3"):
        store.leave(store.owned(run_id), "blocked", detail="a bug")
    assert store.claim() == []
    assert store.do(Unblock("r2", NOW + 1)) == 1
    assert (store.row("r2").status, store.row("r2").detail, store.row("r2").ready_at) == ("ready", "", NOW + 1)
    assert store.do(Unblock("r2", NOW + 1)) == 0
    assert store.do(Unblock("", NOW + 2)) == 2
    assert store.do(Unblock("", NOW + 2)) == 0
    assert {row.status for row in store.store.runs(Filter())} == {"ready"}


def test_terminated_run_is_over_and_its_parent_is_told(store: Client) -> None:
    store.leave(store.owned("p"), "waiting")
    child = store.owned("p.c", parent="p", parent_path="@run:flow#1")
    store.append(child, completed(), tasks_opened=(task("p.c"),))
    assert store.do(Terminate("p.c", "stuck", NOW + 3))
    row = store.row("p.c")
    assert (row.status, row.owner, row.detail, row.ended_at) == ("cancelled", "", "stuck", NOW + 3)
    assert store.journal("p.c")[-1] == RunCancelled(at=NOW + 3, reason="stuck")
    assert store.store.tasks() == []
    told = store.inbox("p")
    assert [letter.event for letter in told] == [
        ChildEnded(at=NOW + 3, path="@run:flow#1", run_id="p.c", status="cancelled")
    ]
    assert store.row("p").status == "ready"
    with pytest.raises(Fenced):
        store.append(child, completed("late#1"))
    assert not store.do(Terminate("p.c", "again", NOW + 4))
    assert store.inbox("p") == told
    with pytest.raises(UnknownName):
        store.do(Terminate("nobody", "", NOW))


# --- reads ------------------------------------------------------------------------------------------------------------


def test_lists_are_filtered_and_newest_first(store: Client) -> None:
    store.create("r1", workflow="shop:checkout")
    store.owned("r2", workflow="shop:refund")
    store.end(store.owned("r3", workflow="post:letter"))
    store.create("r4", workflow="shop:checkout", parent="r2")
    store.leave(store.owned("r5"), "ready")

    def found(**fields: Any) -> list[str]:
        return [row.run_id for row in store.store.runs(Filter(**fields))]

    assert found() == ["r5", "r4", "r3", "r2", "r1"]
    assert found(limit=2) == ["r5", "r4"]
    assert found(status=("pending",)) == ["r4", "r1"]
    assert found(status=("running", "completed")) == ["r3", "r2"]
    assert found(status=("pending", "completed")) == ["r4", "r3", "r1"]
    assert found(status=("ready",)) == ["r5"]
    assert found(workflow="shop:") == ["r4", "r2", "r1"]
    assert found(workflow="check", status=("pending",)) == ["r4", "r1"]
    assert found(parent="r2") == ["r4"]
    assert found(status=("failed",)) == []


def test_open_tasks_are_listed_oldest_first_until_closed(store: Client) -> None:
    one, two = store.owned("r1"), store.owned("r2")
    store.append(two, completed(), tasks_opened=(task("r2", "@ask#1", NOW + 2), task("r2", "@ask#2", NOW + 1)))
    store.append(one, completed(), tasks_opened=(task("r1", "@ask#1", NOW + 3), task("r1", "@ask#9", NOW + 1)))

    def shown(run_id: str = "") -> list[tuple[str, str]]:
        return [(each.run_id, each.path) for each in store.store.tasks(run_id)]

    assert shown() == [("r1", "@ask#9"), ("r2", "@ask#2"), ("r2", "@ask#1"), ("r1", "@ask#1")]
    assert shown("r1") == [("r1", "@ask#9"), ("r1", "@ask#1")]
    again = OpenTaskRow("r1", "@ask#9", b'{"title":"again"}', NOW + 9, generation=1)
    store.append(one, completed("x#1"), tasks_opened=(again,), tasks_closed=("@ask#7",))
    assert store.store.tasks("r1")[-1] == again
    store.append(one, completed("y#1"), tasks_closed=("@ask#9",))
    assert shown("r1") == [("r1", "@ask#1")]
    store.end(two)
    assert shown() == [("r1", "@ask#1")]


def test_version_tells_of_every_commit(stores: Stores) -> None:
    store, other = stores.client(), stores.client()
    seen = other.store.version()
    assert other.store.version() == seen
    writes: list[Operation[Any]] = [
        Create(new_run()),
        Post(Posting("r1", message()), NOW),
        Claim("one", 1, NOW),
        Reclaim(1, "one"),
        Renew(OwnerRow("one", "here", 1, NOW)),
    ]
    for write in writes:
        store.do(write)
        assert other.store.version() != seen, write
        seen = other.store.version()


def test_everything_is_there_after_reopening(stores: Stores) -> None:
    store = stores.client()
    store.do(full_append(prepared(store), head=2))
    store.post("r1.child", key="k")
    store.renew("one")
    store.create("big", input=LARGE, business_id="order", priority=5)
    before = dump(store.store)
    assert dump(stores.reopened().store) == before


# --- forks ------------------------------------------------------------------------------------------------------------


def test_a_run_is_created_with_its_whole_history_in_one_operation(stores: Stores) -> None:
    store = stores.client()
    store.owned("origin", business_id="order")
    large = completed("b#1", value=b'"' + b"x" * BLOB_BYTES_MIN + b'"', at=NOW + 1)
    forked = Forked(at=NOW + SECOND, run_id="fork", origin="origin", through=3)
    tagged = AttributesSet(at=NOW, path="@set#1", values={"tier": "gold"})
    history = (completed("a#1"), tagged, large, forked)
    new = new_run("fork", history=history, business_id="order", on_conflict="replace", parent="")
    new = msgspec.structs.replace(new, started=msgspec.structs.replace(new.started, generation=2, begun_as="origin"))
    child = new_run("fork.child", history=(forked,), parent="fork", parent_path="@run:flow#1")
    row, is_new = store.do(Create(new, (child,)))
    assert (store.row("fork.child").parent, store.journal("fork.child")) == ("fork", [child.started, forked])
    assert store.do(Create(new, (child,))) == (row, False)
    assert (is_new, row.status, row.generation, row.first_seq) == (True, "ready", 2, 1)
    assert (row.created_at, row.ready_at) == (NOW + SECOND, NOW + SECOND)  # not when its origin was started
    again = stores.reopened() if stores.kind != "memory" else store
    assert again.row("fork") == row
    assert again.journal("fork") == [new.started, *history]
    assert (again.row("order").run_id, again.row("origin").business_id) == ("fork", "")
    (mine,) = [each for each in again.claim("two", now=NOW + SECOND) if each.run_id == "fork"]
    again.append(mine, completed("c#1"))
    assert len(again.journal("fork")) == 6
    assert again.store.attributes([mine.no]) == {mine.no: {"tier": "gold"}}
