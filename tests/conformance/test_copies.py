"""Runs as copies, out of one store and into another: nothing is lost, and nothing is taken twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from cadenza.durable.events import RunCompleted, TaskOpened
from cadenza.engine.store import BLOB_BYTES_MIN, Import, RunCopy
from cadenza.errors import ImportRefused, UnknownName
from tests.conformance.stores import KINDS, NOW, SECOND, Client, Stores, completed, dump, message, new_run, task


@pytest.fixture(params=KINDS)
def other(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Client]:
    (tmp_path / "other").mkdir()
    made = Stores(request.param, tmp_path / "other")
    yield made.client()
    made.close()


def family(store: Client) -> list[RunCopy]:
    """A run that waits, with a child that has ended, a letter, a read letter with a key, a question and a large
    payload."""
    row = store.owned("r1", business_id="order-1", priority=3, concurrency_key="k", concurrency=2)
    store.append(row, completed(value=b'"' + b"x" * 2 * BLOB_BYTES_MIN + b'"'))
    store.append(row, children=(new_run("r1.c", parent="r1", parent_path="@run:c#1", owner="one"),))
    child = store.row("r1.c")
    store.append(child, RunCompleted(at=NOW, value=b"2"))
    store.end(child)
    store.post("r1", message("read"), key="once")
    store.append(row, message("read"), consumed=(store.inbox()[0].id,))
    store.append(row, TaskOpened(at=NOW, path="@ask#1", task=b"{}"), tasks_opened=(task(),))
    store.leave(row, "blocked", detail="why")
    store.post("r1", message("waits"), key="twice")
    return store.store.copies("r1")


def test_copies_hold_all_there_is_and_can_be_taken_in(store: Client, other: Client) -> None:
    copies = family(store)
    assert [copy.row.run_id for copy in copies] == ["r1", "r1.c"]
    other.create("first")  # numbers differ
    other.do(Import(tuple(copies)))
    there, here = dump(store.store), dump(other.store)
    for part in ("journals", "last", "epochs"):
        assert {name: value for name, value in here[part].items() if name != "first"} == there[part]
    for run_id in ("r1", "r1.c"):
        assert msgspec.structs.replace(other.row(run_id), no=store.row(run_id).no) == store.row(run_id)
        assert [letter.event for letter in other.inbox(run_id)] == [letter.event for letter in store.inbox(run_id)]
    assert here["tasks"] == there["tasks"]
    assert other.row("order-1").run_id == "r1"


def test_keys_of_letters_are_known_after_an_import(store: Client, other: Client) -> None:
    other.do(Import(tuple(family(store))))
    other.post("r1", message("read"), key="once")
    other.post("r1", message("waits"), key="twice")
    assert len(other.inbox()) == 1


def test_an_imported_run_has_no_owner_and_can_be_claimed(store: Client) -> None:
    row = store.owned()
    (copy,) = store.store.copies(row.run_id)
    renamed = msgspec.structs.replace(copy.row, run_id="r2", status="ready", owner="somebody")
    store.do(Import((msgspec.structs.replace(copy, row=renamed),)))
    assert store.row("r2").owner == ""
    assert [each.run_id for each in store.claim("two", now=NOW + SECOND)] == ["r2"]
    assert store.row("r2").epoch == row.epoch + 1


@pytest.mark.parametrize("name", ["r1", "r9"], ids=["run id", "business id"])
def test_a_taken_name_refuses_all_of_an_import(store: Client, name: str) -> None:
    store.create("r1", business_id="order-1")
    before = dump(store.store)
    (copy,) = store.store.copies("r1")
    fresh = msgspec.structs.replace(copy, row=msgspec.structs.replace(copy.row, run_id="r8", business_id=""))
    clash = msgspec.structs.replace(copy, row=msgspec.structs.replace(copy.row, run_id=name))
    with pytest.raises(ImportRefused, match="Nothing was imported"):
        store.do(Import((fresh, clash)))
    assert dump(store.store) == before


def test_there_is_no_copy_of_an_unknown_run(store: Client) -> None:
    with pytest.raises(UnknownName):
        store.store.copies("nobody")
    store.create()  # the store goes on
