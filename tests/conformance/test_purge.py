"""What a purge takes away, and what it never does; search attributes and the filters on them."""

import asyncio
from pathlib import Path
from typing import Any

import apsw
import pytest

from cadenza import Context, Engine, RunHandle, workflow
from cadenza.durable.events import AttributesSet, Scalar
from cadenza.engine.filter import Condition, Filter
from cadenza.engine.store import BLOB_BYTES_MIN, Append, Import, RunRow, Terminate
from cadenza.engine.upkeep import Purge, Purged
from cadenza.errors import Fenced, RunBlocked, UnknownName, UsageError
from tests.conformance.stores import NOW, SECOND, Client, Stores, append, completed, dump, message, sqlite

LATER = NOW + 1_000 * SECOND
ANY = Purge(Filter(limit=100))
LARGE = b'"' + b"x" * BLOB_BYTES_MIN + b'"'


def ended(store: Client, run_id: str, status: Any = "completed", at: int = NOW, **fields: Any) -> RunRow:
    row = store.owned(run_id, **fields)
    store.end(row, status, now=at)
    return store.row(run_id)


# --- purge ------------------------------------------------------------------------------------------------------------


def test_a_purged_run_leaves_nothing(store: Client) -> None:
    before = dump(store.store)
    row = store.owned(business_id="order", input=LARGE)
    store.post("r1", key="k")
    letter = store.inbox()[0].id
    store.append(row, completed(value=LARGE), consumed=(letter,), attributes=(("topic", "refund"),))
    store.end(row)
    assert store.do(ANY) == Purged(("r1",), events=2, more=False)
    assert dump(store.store) == before
    assert store.store.run("order") is None
    assert (store.store.events(row.no), store.store.letters(row.no), store.store.epoch(row.no)) == ([], [], 0)
    with pytest.raises(UnknownName, match="purged"):
        store.store.last_event(row.no)
    assert store.create("again", business_id="order").business_id == "order"


@pytest.mark.parametrize("status", ["running", "ready", "waiting", "blocked"])
def test_a_run_that_has_not_ended_is_never_purged(store: Client, status: Any) -> None:
    row = store.owned()
    if status != "running":
        store.leave(row, status)
    before = dump(store.store)
    assert store.do(Purge(Filter(status=(status,), ended_before=LATER, run_ids=("r1",)))) == Purged()
    assert dump(store.store) == before


def test_a_run_whose_parent_has_not_ended_is_never_purged(store: Client) -> None:
    parent = store.owned("p")
    ended(store, "p.1", parent="p")
    ended(store, "p.1.1", parent="p.1")
    assert store.do(ANY).run_ids == ("p.1.1",)  # its own parent has ended
    assert store.do(Purge(Filter(run_ids=("p.1",)))) == Purged()
    store.end(parent, now=NOW + SECOND)
    assert store.do(ANY).run_ids == ("p.1", "p")


def test_a_child_outlives_its_purged_parent(store: Client) -> None:
    ended(store, "p")
    child = store.owned("p.1", parent="p")
    assert store.do(ANY).run_ids == ("p",)
    store.end(child)
    assert store.row("p.1").status == "completed"
    assert store.do(ANY).run_ids == ("p.1",)


def test_the_earliest_ends_are_purged_first(store: Client) -> None:
    for run_id, at in (("late", 3), ("early", 1), ("middle", 2)):
        ended(store, run_id, at=NOW + at * SECOND)
    assert store.do(Purge(Filter(limit=2))) == Purged(("early", "middle"), events=2, more=True)
    assert store.do(Purge(Filter(limit=2))) == Purged(("late",), events=1, more=False)


def test_only_what_the_filter_names_is_purged(store: Client) -> None:
    ended(store, "old", at=NOW)
    ended(store, "new", at=NOW + 5 * SECOND)
    ended(store, "bad", "failed", at=NOW)
    filter = Filter(status=("completed",), ended_before=NOW + 5 * SECOND)
    assert store.do(Purge(filter)).run_ids == ("old",)
    assert {row.run_id for row in store.store.runs(Filter())} == {"new", "bad"}


def test_a_number_is_never_given_twice(stores: Stores) -> None:
    store = stores.client()
    row = store.owned("gone")
    store.do(Terminate("gone", "test", NOW))
    store.do(ANY)
    store.do(ANY)
    if stores.kind != "memory":
        store = stores.reopened()
    again = store.owned("new")
    assert again.no > row.no
    with pytest.raises(Fenced):
        store.do(append(row, 1, completed()))
    with pytest.raises(Fenced):
        store.do(Append(row.no, 1, 2, NOW, (completed(),)))
    assert len(store.journal("new")) == 1


def test_letters_to_a_purged_run_are_refused(store: Client) -> None:
    ended(store, "r1")
    store.do(ANY)
    with pytest.raises(UnknownName):
        store.post("r1", message())


def test_a_payload_stays_while_another_run_refers_to_it(tmp_path: Path) -> None:
    def payloads() -> int:
        return next(iter(apsw.Connection(str(tmp_path / "s.db")).execute("SELECT count(*) FROM blob")))[0]

    with sqlite(tmp_path / "s.db") as store:
        ended(store, "one", input=LARGE)
        store.owned("two", input=LARGE)
        assert payloads() == 1
        store.do(ANY)
        assert store.journal("two")[0].input == LARGE  # type: ignore[union-attr]
        store.end(store.row("two"))
        store.do(ANY)
        assert payloads() == 0


def test_a_long_journal_is_deleted_in_pieces_also_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "s.db"

    def left() -> int:
        return next(iter(apsw.Connection(str(path)).execute("SELECT count(*) FROM journal")))[0]

    with sqlite(path) as store:
        row = store.owned("long")
        store.append(row, *(completed(f"s#{n}") for n in range(25)))
        store.end(row)
        ended(store, "short", at=NOW + SECOND)
        assert store.do(Purge(Filter(), events_max=10)) == Purged(("long",), events=10, more=True)
        assert store.store.run("long") is None
        assert left() == 17
    with sqlite(path) as store:
        deleted = []
        while (purged := store.do(Purge(Filter(), events_max=10))).more:
            deleted.append(purged)
        assert [(each.run_ids, each.events) for each in [*deleted, purged]] == [((), 10), (("short",), 7)]
        assert left() == 0


# --- search attributes ------------------------------------------------------------------------------------------------

VALUES: dict[str, dict[str, Scalar]] = {
    "a": {"topic": "refund", "amount": 12.5, "vip": True},
    "b": {"topic": "refund", "amount": 3},
    "c": {"topic": "Refund", "amount": "3", "vip": False},
    "d": {},
}


@pytest.mark.parametrize(
    ("conditions", "found"),
    [
        (["topic=refund"], "ab"),
        (["topic!=refund"], "c"),
        (["topic=refund", "amount>10"], "a"),
        (["amount>=3"], "ab"),
        (["amount=3.0"], "b"),
        (['amount="3"'], "c"),
        (["amount<12.5"], "b"),
        (["amount<=12.5"], "ab"),
        (["topic>a"], "ab"),
        (["vip=true"], "a"),
        (["vip!=true"], "c"),
        (["vip=1"], ""),
        (["nothing=1"], ""),
    ],
    ids=" ".join,
)
def test_runs_are_found_by_attributes(store: Client, conditions: list[str], found: str) -> None:
    for run_id, values in VALUES.items():
        store.append(store.owned(run_id), completed(), attributes=tuple(values.items()))
    filter = Filter(attributes=tuple(map(Condition.parse, conditions)))
    assert {row.run_id for row in store.store.runs(filter)} == set(found)
    numbers = {store.row(run_id).no: values for run_id, values in VALUES.items() if values}
    kept = store.store.attributes(list(numbers))
    assert kept == numbers
    assert {type(value) for values in kept.values() for value in values.values()} == {str, float, int, bool}


def test_attributes_are_replaced_and_taken_away(store: Client) -> None:
    row = store.owned()
    store.append(row, completed(), attributes=(("a", 1), ("b", "x"), ("a", 2)))
    assert store.store.attributes([row.no]) == {row.no: {"a": 2, "b": "x"}}
    store.append(row, completed("s#2"), attributes=(("a", None), ("gone", None)))
    assert store.store.attributes([row.no]) == {row.no: {"b": "x"}}


def test_imported_runs_bring_their_attributes(store: Client, tmp_path: Path) -> None:
    with sqlite(tmp_path / "other.db") as other:
        row = other.owned("r2")
        other.append(row, AttributesSet(at=NOW, path="@attributes#1", values={"a": 1, "b": "x"}))
        other.append(row, AttributesSet(at=NOW, path="@attributes#2", values={"a": None}))
        other.end(row)
        copies = tuple(other.store.copies("r2"))
    ended(store, "r1")
    store.do(ANY)
    store.do(Import(copies))
    row = store.row("r2")
    assert row.no == 2
    assert store.store.attributes([row.no]) == {row.no: {"b": "x"}}


def test_refused_append_sets_no_attributes(store: Client) -> None:
    row = store.owned()
    with pytest.raises(Fenced):
        store.do(append(row, 7, completed(), attributes=(("a", 1),)))
    assert store.store.attributes([row.no]) == {}


@pytest.mark.parametrize("text", ["", "topic", "=x", "a b=1", "1a=2", "a=>"])
def test_a_condition_that_cannot_be_read_is_refused(text: str) -> None:
    if text == "a=>":
        assert Condition.parse(text).value == ">"
        return
    with pytest.raises(UsageError):
        Condition.parse(text)


@pytest.mark.parametrize(
    "text", ["a=nan", "a=Infinity", "a=1e999", "a=99999999999999999999", "a=[1]", "a=null", "a=x y"]
)
def test_what_is_no_scalar_is_a_text(text: str) -> None:
    assert Condition.parse(text).value == text[2:]


@workflow
async def classified(ctx: Context, amount: float) -> int:
    ctx.set_attributes(topic="refund", amount=amount, vip=False)
    ctx.set_attributes(vip=None)
    await ctx.receive("go")
    ctx.set_attributes(amount=amount * 2)
    if ctx.generation == 0:
        ctx.continue_as_new(amount)
    return 1


@workflow
async def misclassified(ctx: Context, what: str) -> int:
    values: Any = {"list": [1], "long": "x" * 1_001, "large": 1 << 63, "nan": float("nan"), "surrogate": "\ud800"}
    if what == "many":
        ctx.set_attributes(**{f"a{n}": n for n in range(65)})
    ctx.set_attributes(value=values[what])
    return 1


async def _classified(location: Path | str) -> None:
    async with Engine.open(location) as engine:
        handle: RunHandle[int] = await engine.start(classified, 6.25)
        await handle.settled()
        no = handle.row.no
        assert engine.store.attributes([no]) == {no: {"topic": "refund", "amount": 6.25}}
        if location == ":memory:":
            await _finish(engine, handle)
            return
    async with Engine.open(location) as engine:  # replays; what is in the journal is not set again
        handle = await engine.resume(handle.run_id)
        await _finish(engine, handle)


async def _finish(engine: Engine, handle: RunHandle[int]) -> None:
    for _ in range(2):
        await handle.signal("go")
    assert await handle.result() == 1
    no = handle.row.no
    assert engine.store.attributes([no]) == {no: {"topic": "refund", "amount": 12.5}}
    journal = engine.journal(handle.run_id)
    assert [event.values for event in journal if isinstance(event, AttributesSet)] == [
        {"topic": "refund", "amount": 6.25, "vip": False},
        {"vip": None},
        {"amount": 12.5},
    ] * 2
    assert engine.runs(Filter(attributes=(Condition.parse("amount>12"),))) == [handle.row]


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_workflow_code_sets_attributes_once_whatever_is_replayed(kind: str, tmp_path: Path) -> None:
    asyncio.run(_classified(":memory:" if kind == "memory" else tmp_path / "s.db"))


@pytest.mark.parametrize("what", ["list", "long", "large", "nan", "surrogate", "many"])
def test_attributes_that_cannot_be_kept_block_the_run(what: str) -> None:
    async def main() -> None:
        async with Engine.open(":memory:") as engine:
            with pytest.raises(RunBlocked, match="search attribute"):
                await (await engine.start(misclassified, what)).result()

    asyncio.run(main())
