"""Who gets which run, and when: priorities, age, concurrency keys, families, timers, leases, and claimers that race."""

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from cadenza.durable.events import StepCompleted
from cadenza.engine.store import Append, Change, Claim, Filter, Reclaim, Retire, RunRow, Terminate
from tests.conformance.stores import EVERYTHING, NOW, SECOND, Client, Stores, append, completed


def ids(rows: list[RunRow]) -> list[str]:
    return [row.run_id for row in rows]


def test_claimed_run_belongs_to_its_owner_in_a_new_epoch(store: Client) -> None:
    store.create("r1")
    (row,) = store.claim("one")
    assert (row.status, row.owner, row.epoch) == ("running", "one", 1)
    assert store.row("r1") == row
    assert store.store.epoch(row.no) == 1
    assert store.claim("two") == []
    store.leave(row, "ready")
    (again,) = store.claim("two")
    assert (again.owner, again.epoch) == ("two", 2)


def test_claim_takes_by_priority_then_age_then_number(store: Client) -> None:
    store.create("young", at=NOW - 1)
    store.create("old", at=NOW - 3)
    store.create("urgent", at=NOW, priority=9)
    store.create("idle", at=NOW - 9, priority=-1)
    store.create("twin of old", at=NOW - 3)
    assert ids(store.claim(limit=2)) == ["urgent", "old"]
    assert ids(store.claim(limit=1)) == ["twin of old"]
    assert ids(store.claim()) == ["young", "idle"]
    assert store.claim() == []


def test_run_that_was_made_ready_again_is_as_old_as_its_wait(store: Client) -> None:
    store.leave(store.owned("parked", at=NOW - 100), "ready", now=NOW)
    store.create("fresh", at=NOW - 1)
    assert ids(store.claim()) == ["fresh", "parked"]


def test_claim_of_nothing_takes_nothing_and_leaves_the_store_usable(stores: Stores) -> None:
    store, other = stores.client(), stores.client()
    store.create("r1")
    assert store.claim(limit=0) == []
    other.create("r2")
    assert ids(store.claim()) == ["r1", "r2"]


# --- concurrency keys -------------------------------------------------------------------------------------------------


def keyed(store: Client, count: int, limit: int, key: str = "k", first: int = 1) -> None:
    for number in range(first, first + count):
        store.create(f"{key}{number}", at=NOW + number, concurrency_key=key, concurrency=limit)


def test_no_more_runs_of_a_key_are_under_way_than_allowed(store: Client) -> None:
    keyed(store, 5, limit=2)
    keyed(store, 3, limit=1, key="j")
    store.create("free", at=NOW + 99)
    assert ids(store.claim(now=NOW + 100)) == ["k1", "j1", "k2", "free"]
    assert store.claim("two", now=NOW + 100) == []


Ending = Callable[[Client, RunRow], Any]
ENDINGS: dict[str, Ending] = {
    "completed": lambda store, row: store.end(row, "completed"),
    "failed": lambda store, row: store.end(row, "failed"),
    "cancelled": lambda store, row: store.end(row, "cancelled"),
    "terminated": lambda store, row: store.do(Terminate(row.run_id, "", NOW)),
}


@pytest.mark.parametrize("how", ENDINGS)
def test_ended_run_makes_room_for_the_next_of_its_key(store: Client, how: str) -> None:
    keyed(store, 3, limit=1)
    (row,) = store.claim()
    assert store.claim() == []
    ENDINGS[how](store, row)
    assert ids(store.claim()) == ["k2"]


@pytest.mark.parametrize("status", ["waiting", "blocked", "ready"])
def test_run_that_left_memory_keeps_its_place(stores: Stores, status: str) -> None:
    store = stores.client()
    keyed(store, 2, limit=1)
    (row,) = store.claim()
    store.leave(row, status, wake_at=NOW + SECOND if status == "waiting" else 0)
    store = stores.reopened()
    assert ids(store.claim()) == (["k1"] if status == "ready" else [])
    if status == "waiting":
        assert ids(store.claim(now=NOW + SECOND)) == ["k1"]


def test_places_are_kept_across_a_restart_and_a_dead_owner(stores: Stores) -> None:
    store = stores.client()
    keyed(store, 4, limit=2)
    store.renew("one")
    assert ids(store.claim("one")) == ["k1", "k2"]
    store = stores.reopened()
    assert store.claim("two") == []
    assert ids(store.claim("two", dead=("one",), limit=10)) == ["k1", "k2"]
    store.end(store.row("k1"))
    assert ids(store.claim("two")) == ["k3"]


def test_runs_over_the_limit_do_not_hold_up_others(store: Client) -> None:
    keyed(store, 50, limit=1)
    store.create("last", at=NOW + 1_000)
    assert ids(store.claim(limit=2)) == ["k1", "last"]


# --- families ---------------------------------------------------------------------------------------------------------


def test_family_claim_takes_these_runs_and_their_descendants_only(store: Client) -> None:
    for run_id in ("a", "a.c1", "a.c1.d", "ab", "b", "b.c1"):
        store.create(run_id)
    assert ids(store.claim(family=("a",))) == ["a", "a.c1", "a.c1.d"]
    assert store.claim(family=("a", "c1", "nobody")) == []
    assert ids(store.claim(family=("b", "ab"))) == ["ab", "b", "b.c1"]


# --- timers -----------------------------------------------------------------------------------------------------------


def test_timer_makes_its_run_ready_when_it_is_due_and_not_before(store: Client) -> None:
    store.leave(store.owned("r1"), "waiting", wake_at=NOW + SECOND)
    store.leave(store.owned("r2"), "waiting", wake_at=0)
    assert store.store.next_due() == NOW + SECOND
    assert store.claim(now=NOW + SECOND - 1) == []
    (row,) = store.claim(now=NOW + SECOND)
    assert (row.run_id, row.ready_at) == ("r1", NOW + SECOND)
    assert store.store.next_due() == 0


def test_parking_for_a_time_that_has_passed_makes_the_run_ready(store: Client) -> None:
    store.leave(store.owned(), "waiting", now=NOW, wake_at=NOW)
    assert store.row().status == "ready"


def test_blocked_run_does_not_wake(store: Client) -> None:
    store.leave(store.owned(), "blocked", wake_at=NOW)
    assert store.claim(now=NOW + SECOND) == []
    assert store.store.next_due() == 0


def test_due_time_is_that_of_the_first_ready_run_or_timer(store: Client) -> None:
    assert store.store.next_due() == 0
    store.leave(store.owned("r1"), "waiting", wake_at=NOW + 5 * SECOND)
    store.leave(store.owned("r2"), "waiting", wake_at=NOW + 3 * SECOND)
    assert store.store.next_due() == NOW + 3 * SECOND
    store.create("r3", at=NOW + SECOND)
    assert store.store.next_due() == NOW + SECOND
    assert store.store.next_due(NOW + SECOND) == NOW + 3 * SECOND
    assert store.store.next_due(NOW + 3 * SECOND - 1) == NOW + 3 * SECOND
    assert store.store.next_due(NOW + 5 * SECOND) == 0


def test_claim_that_changes_nothing_looks_like_no_commit(stores: Stores) -> None:
    store, other = stores.client(), stores.client()
    keyed(store, 3, limit=1)
    store.claim()
    seen = other.store.version()
    assert store.claim() == store.claim(family=("nobody",)) == []
    assert other.store.version() == seen
    store.renew("gone", NOW - 1)
    seen = other.store.version()
    assert store.claim(now=NOW) == []
    assert other.store.version() != seen, "an owner was buried"


# --- owners -----------------------------------------------------------------------------------------------------------


def test_runs_of_an_owner_are_taken_over_once_its_lease_has_expired(store: Client) -> None:
    store.renew("one", NOW + SECOND)
    store.renew("two", NOW + 9 * SECOND)
    old = store.owned("r1", owner="one")
    store.owned("r2", owner="two")
    assert store.claim("two", now=NOW + SECOND) == []
    (new,) = store.claim("two", now=NOW + SECOND + 1)
    assert (new.run_id, new.owner, new.epoch) == ("r1", "two", old.epoch + 1)
    assert [owner.owner for owner in store.store.owners()] == ["two"]


def test_renewed_lease_holds(store: Client) -> None:
    store.renew("one", NOW + SECOND)
    store.owned("r1", owner="one")
    store.renew("one", NOW + 3 * SECOND)
    assert store.claim("two", now=NOW + 2 * SECOND) == []
    assert [(owner.owner, owner.expires_at) for owner in store.store.owners()] == [("one", NOW + 3 * SECOND)]


def test_runs_of_an_owner_known_to_be_dead_are_taken_over_at_once(store: Client) -> None:
    store.renew("one", NOW + 99 * SECOND)
    row = store.owned("r1", owner="one")
    store.leave(store.owned("waits", owner="one"), "waiting")
    store.leave(store.owned("blocked", owner="one"), "blocked")
    store.owned("alive", owner="three")
    store.renew("three")
    assert ids(store.claim("two", dead=("one", "unknown"))) == ["r1"]
    assert [owner.owner for owner in store.store.owners()] == ["three", "two"]
    assert store.store.epoch(row.no) == 2


def test_owner_that_is_in_no_list_is_shown_so_that_it_can_be_buried(store: Client) -> None:
    """A process that was stopped past its lease may claim after its row is gone; its runs must not be lost with it."""
    store.renew("one")
    store.owned("r1", owner="one")
    store.owned("r2", owner="ghost")
    owners = {owner.owner: owner for owner in store.store.owners()}
    assert sorted(owners) == ["ghost", "one"]
    assert owners["ghost"].expires_at == 0
    assert ids(store.claim("one", dead=("ghost",))) == ["r2"]


def test_retired_owner_leaves_its_runs_to_others(store: Client) -> None:
    store.renew("one")
    store.renew("two")
    store.owned("r1", owner="one")
    store.owned("r2", owner="two")
    store.do(Retire("one", NOW + 5))
    row = store.row("r1")
    assert (row.status, row.owner, row.ready_at) == ("ready", "", NOW + 5)
    assert store.row("r2").status == "running"
    assert [owner.owner for owner in store.store.owners()] == ["two"]


def test_reclaim_gives_a_new_epoch_to_the_owner_and_to_nobody_else(store: Client) -> None:
    row = store.owned()
    assert store.do(Reclaim(row.no, "two")) is None
    again = store.do(Reclaim(row.no, "one"))
    assert again is not None
    assert (again.epoch, again.owner, again.status) == (2, "one", "running")
    with pytest.raises(Exception, match="epoch"):
        store.append(row, completed())
    store.leave(again, "waiting")
    assert store.do(Reclaim(row.no, "one")) is None
    assert store.do(Reclaim(99, "one")) is None
    assert (store.store.epoch(row.no), store.row().epoch) == (0, 2)


# --- races ------------------------------------------------------------------------------------------------------------


def race(stores: Stores, claimers: int, work: Callable[[Client, str], None]) -> None:
    """``work`` in threads, one client of the store each; the first error of any is raised."""
    errors: list[BaseException] = []
    barrier = threading.Barrier(claimers)

    def serve(client: Client, name: str) -> None:
        try:
            barrier.wait()
            work(client, name)
        except BaseException as error:
            errors.append(error)

    threads = [
        threading.Thread(target=serve, args=(stores.client(), f"w{number}"), daemon=True) for number in range(claimers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not errors, errors
    assert not any(thread.is_alive() for thread in threads)


def test_concurrent_claimers_never_both_get_a_run(stores: Stores) -> None:
    store = stores.client()
    for number in range(200):
        store.create(f"r{number}")
    got: list[RunRow] = []

    def work(client: Client, name: str) -> None:
        while rows := client.claim(name, limit=3):
            got.extend(rows)

    race(stores, 4, work)
    assert Counter(ids(got)) == Counter(f"r{number}" for number in range(200))
    assert {row.run_id: row.owner for row in got} == {row.run_id: row.owner for row in store.store.runs(EVERYTHING)}
    assert all(row.epoch == 1 for row in got)


def test_every_ownership_has_an_epoch_of_its_own_while_runs_change_hands(stores: Stores) -> None:
    """Claimers take, write, release, reclaim and bury each other; two never hold one run in one epoch."""
    store = stores.client()
    for number in range(6):
        store.create(f"r{number}")
    held: list[tuple[str, int, str]] = []

    def work(client: Client, name: str) -> None:
        victim = {"w0": "w1", "w1": "w2", "w2": "w0"}[name]
        for turn in range(40):
            for row in client.claim(name, limit=2, dead=(victim,) if turn % 5 == 0 else ()):
                held.append((row.run_id, row.epoch, name))
                written = client.batch([_mark(client, row, name)])
                if written[0][1] is None and turn % 3 == 0 and (again := client.do(Reclaim(row.no, name))) is not None:
                    held.append((row.run_id, again.epoch, name))
                    row = again
                client.batch([_mark(client, row, name, release_at=NOW + turn)])

    race(stores, 3, work)
    holders = Counter((run_id, epoch) for run_id, epoch, _ in held)
    assert holders.most_common(1)[0][1] == 1, "two owners in one epoch"
    owned = {(run_id, epoch): name for run_id, epoch, name in held}
    for row in store.store.runs(EVERYTHING):
        marks = [each for each in store.journal(row.run_id) if isinstance(each, StepCompleted)]
        assert marks, "nobody wrote"
        epochs = [int(each.path.partition("#")[2]) for each in marks]
        assert epochs == sorted(epochs), "an older epoch wrote after a newer one"
        assert all(owned[row.run_id, epoch] == each.done_by for each, epoch in zip(marks, epochs, strict=True))


def _mark(client: Client, row: RunRow, name: str, *, release_at: int = 0) -> Append:
    event = msgspec.structs.replace(completed(f"e#{row.epoch}"), done_by=name)
    change = Change("ready") if release_at else None
    return append(row, len(client.store.events(row.no)), event, change=change, now=release_at or NOW)


def test_concurrency_limit_holds_under_concurrent_claimers(stores: Stores) -> None:
    store = stores.client()
    keyed(store, 60, limit=3)
    lock, under_way, most = threading.Lock(), set[str](), [0]

    def work(client: Client, name: str) -> None:
        while client.store.runs(Filter(status=("pending", "running"), limit=1)):
            rows = client.claim(name, limit=2)
            with lock:
                under_way.update(ids(rows))
                most[0] = max(most[0], len(under_way))
            for row in rows:
                with lock:
                    under_way.discard(row.run_id)
                client.end(row)

    race(stores, 4, work)
    assert 1 < most[0] <= 3
    assert all(row.status == "completed" for row in store.store.runs(EVERYTHING))


def test_claims_in_one_batch_share_what_there_is(store: Client) -> None:
    for number in range(4):
        store.create(f"r{number}")
    keyed(store, 4, limit=2)
    settled = store.batch([Claim(f"w{number}", 3, NOW + 99) for number in range(4)])
    taken = [run_id for rows, _ in settled for run_id in ids(rows)]
    assert sorted(taken) == ["k1", "k2", "r0", "r1", "r2", "r3"]
