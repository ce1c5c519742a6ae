"""Many runs at once: listed, cancelled, signalled, resumed and purged, beside workers in other processes."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest

from cadenza import Engine, EngineOptions
from cadenza.engine.bulk import Bulk, on_all
from cadenza.engine.filter import Filter
from cadenza.engine.sqlite.store import SQLiteStore
from tests.acceptance.commands import Project, Terminal, ended, until

SHOP = '''
"""Workflows for the tests of what is done with many runs."""
from pydantic import BaseModel
from cadenza import *

class Order(BaseModel):
    topic: str = "refund"
    amount: float = 1
    note: str = ""

@step
async def look(order: Order) -> str:
    return order.note

@step
async def refuse(order: Order) -> str:
    raise ValueError(f"no {order.topic}")

@workflow
async def order(ctx: Context, order: Order) -> float:
    ctx.set_attributes(topic=order.topic, amount=order.amount)
    await ctx.step(look, order)
    return order.amount

@workflow
async def refused(ctx: Context, order: Order) -> str:
    ctx.set_attributes(topic=order.topic)
    return await ctx.step(refuse.options(retry=Retry(attempts=1)), order)

@workflow
async def patient(ctx: Context, order: Order) -> str:
    ctx.set_attributes(topic=order.topic, amount=order.amount)
    await ctx.run(child, order)
    return await ctx.receive("go", str)

@agent
async def helper(order: Order) -> str:
    return order.topic

@workflow
async def mended(ctx: Context, order: Order) -> str:
    return await ctx.call("nobody", order)

@workflow
async def child(ctx: Context, order: Order) -> int:
    await ctx.step(look, order)
    return 1
'''


@pytest.fixture
def cadenza(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    (tmp_path / "stall.py").write_text(SHOP, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    return Project(tmp_path)


def start(cadenza: Project, workflow: str, **order: Any) -> str:
    """A run that has ended or waits, made in this process."""
    import stall  # type: ignore[import-not-found]  # the module above, from the folder of the first test

    async def main() -> str:
        async with Engine.open(cadenza.folder / "cadenza.db") as engine:
            handle = await engine.start(getattr(stall, workflow), order)
            await handle.settled()
            return handle.run_id

    return asyncio.run(main())


def ids(cadenza: Project, status: str = "") -> list[str]:
    store = SQLiteStore(cadenza.folder / "cadenza.db")
    try:
        return [row.run_id for row in store.runs(Filter((status,) if status else ()))]
    finally:
        store.close()


def test_runs_are_listed_by_attributes(cadenza: Project) -> None:
    small, large = start(cadenza, "order", amount=2), start(cadenza, "order", amount=20, topic="gift")
    (found,) = cadenza("runs", "--json", "--where", "topic=refund", "--where", "amount<=2").json
    assert found["run_id"] == small
    (listed,) = cadenza("runs", "--json", "--where", "amount>10").json
    assert listed["run_id"] == large
    assert listed["attributes"] == {"topic": "gift", "amount": 20.0}
    assert "topic=gift" in cadenza("runs").out
    refused = cadenza("runs", "--where", "amount")
    assert (refused.code, "is no condition" in refused.err) == (2, True)


def test_purge_takes_what_it_names_and_leaves_the_rest(cadenza: Project) -> None:
    done, gift = start(cadenza, "order"), start(cadenza, "order", topic="gift")
    failed, waiting = start(cadenza, "refused"), start(cadenza, "patient")
    young = cadenza("purge", "--older-than", "1h", "--yes", "--json")
    assert young.json == {"purged": [], "found": 0, "events": 0}
    unasked = cadenza("purge", "--status", "completed")
    assert (unasked.code, "Add --yes" in unasked.err) == (2, True)
    tried = cadenza("purge", "--status", "completed", "--where", "topic=refund", "--dry-run")
    assert (tried.code, "1 run would be purged" in tried.err, done in tried.err) == (0, True, True)
    assert cadenza("purge", "--where", "topic=refund", "--status", "completed", "--yes", "--json").json["purged"] == [
        done
    ]
    assert set(ids(cadenza)) >= {gift, failed, waiting}
    assert set(cadenza("purge", "--older-than", "0s", "--yes", "--json").json["purged"]) == {gift, failed}
    left = ids(cadenza)
    assert waiting in left
    assert len(left) == 2  # its child has ended, and may still be asked for
    assert cadenza("show", done).code == 2


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "say which runs"),
        (["--status", "running"], "only ended runs are purged"),
        (["--older-than", "soon"], "is no age"),
        (["--older-than", "-3d"], "is no age"),
        (["nobody"], "no run is named"),
    ],
)
def test_a_purge_that_makes_no_sense_is_refused(cadenza: Project, options: list[str], says: str) -> None:
    start(cadenza, "order")
    refused = cadenza("purge", *options, "--yes")
    assert (refused.code, says in refused.err) == (2, True), refused.err
    assert len(ids(cadenza)) == 1


def test_runs_that_are_named_are_purged_or_it_says_why_not(cadenza: Project) -> None:
    waiting = start(cadenza, "patient")
    (child,) = (each for each in ids(cadenza) if each != waiting)
    assert "only ended runs are purged" in cadenza("purge", waiting).err
    assert f"is a child of {waiting}, which is waiting" in cadenza("purge", child).err
    cadenza("signal", waiting, "go", '"x"')
    assert cadenza("resume", waiting).code == 0
    assert cadenza("purge", waiting, child).code == 0
    assert ids(cadenza) == []


def test_purge_asks_at_a_terminal(cadenza: Project) -> None:
    start(cadenza, "order")
    with Terminal(cadenza, "purge", "--status", "completed") as terminal:
        terminal.until("1 run will be purged. Go on?")
        terminal.type("n\n")
        terminal.until("Nothing was done")
        assert terminal.end() == 0
    assert len(ids(cadenza)) == 1


def test_purge_while_a_worker_of_another_process_goes_on(cadenza: Project) -> None:
    for _ in range(3):
        start(cadenza, "order")
    waiting = start(cadenza, "patient")
    with cadenza.started("worker", "stall.py", "flows.py") as worker:
        with cadenza.started("run", "flows.py:chain", "400", "--no-verify") as chain:
            until(lambda: len(ids(cadenza)) == 6, "the run never began")
            assert len(cadenza("purge", "--status", "completed", "--yes", "--json").json["purged"]) >= 3
            assert ended(chain).code == 0
        cadenza("signal", waiting, "go", '"x"')
        until(lambda: waiting in ids(cadenza, "completed"), "the waiting run never ended")
        assert cadenza("purge", "--status", "completed", "--yes").code == 0
        assert ids(cadenza) == []
        again = start(cadenza, "order")
        assert ids(cadenza, "completed") == [again]
        worker.send_signal(signal.SIGTERM)
        done = ended(worker)
    assert done.code == 0, done.err
    assert "Traceback" not in done.err


def test_a_worker_purges_what_is_older_than_its_retention(cadenza: Project) -> None:
    done, failed, waiting = start(cadenza, "order"), start(cadenza, "refused"), start(cadenza, "patient")
    with cadenza.started("worker", "stall.py", "--keep", "completed=0d", "--keep", "failed=30d"):
        until(lambda: done not in ids(cadenza), "the old run was never purged")
    assert {failed, waiting} < set(ids(cadenza))
    refused = cadenza("worker", "stall.py", "--keep", "running=1d")
    assert (refused.code, "no status of an ended run" in refused.err) == (2, True)


def test_vacuum_gives_space_back_under_a_running_worker(cadenza: Project) -> None:
    for amount in range(4):
        start(cadenza, "order", amount=amount, note=str(amount) * 500_000)
    waiting = start(cadenza, "patient")
    file = cadenza.folder / "cadenza.db"
    with cadenza.started("worker", "stall.py"):
        assert cadenza("purge", "--status", "completed", "--yes").code == 0
        sizes = cadenza("vacuum", "--json")
        assert sizes.code == 0, sizes.err
        assert sizes.json["before_bytes"] > 2_000_000
        assert file.stat().st_size <= sizes.json["after_bytes"] < 500_000
        cadenza("signal", waiting, "go", '"x"')
        until(lambda: waiting in ids(cadenza, "completed"), "the waiting run never ended")
    refused = cadenza("vacuum", "--store", "nothing.db")
    assert refused.code != 0
    assert not (cadenza.folder / "nothing.db").exists()


def test_many_runs_are_sent_messages_and_cancelled(cadenza: Project) -> None:
    small, large = start(cadenza, "patient", amount=1), start(cadenza, "patient", amount=20)
    other = start(cadenza, "patient", topic="gift", amount=30)
    done = start(cadenza, "order", amount=50)
    tried = cadenza("cancel", "--where", "amount>10", "--dry-run")
    assert (tried.code, "2 runs would be asked to stop" in tried.err, small in tried.err) == (0, True, False)
    unasked = cadenza("signal", "--where", "amount>10", "go", '"x"')
    assert (unasked.code, "Add --yes" in unasked.err) == (2, True)
    cancelled = cadenza("cancel", "--where", "amount>10", "--where", "topic=refund", "--yes")
    assert (cancelled.code, "1 run asked to stop" in cancelled.err) == (0, True), cancelled.err
    assert "No worker runs on this store" in cancelled.err
    sent = cadenza("signal", "--status", "waiting", "--status", "pending", "go", '"x"', "--yes")
    assert (sent.code, "2 runs sent 'go'" in sent.err) == (0, True), sent.err
    with cadenza.started("worker", "stall.py"):
        until(lambda: set(ids(cadenza, "completed")) >= {small, other, done}, "not all runs ended")
        until(lambda: ids(cadenza, "cancelled") == [large], "the run was never cancelled")
    nothing = cadenza("cancel", "--workflow", "stall", "--yes")
    assert (nothing.code, "No runs are like that" in nothing.err) == (0, True)


def test_what_failed_is_told_and_the_others_go_on(cadenza: Project) -> None:
    for _ in range(3):
        start(cadenza, "patient")

    async def main() -> Bulk:
        async with Engine.open(cadenza.folder / "cadenza.db", EngineOptions(worker=False)) as engine:
            rows = engine.runs(Filter(("waiting",)))
            await engine.cancel(rows[1].run_id, force=True)
            tried: list[int] = []
            bulk = await on_all(rows, lambda row: engine.cancel(row.run_id), tried.append)
            assert tried == [3]
            assert [run_id for run_id, _ in bulk.failed] == [rows[1].run_id]
            return bulk

    bulk = asyncio.run(main())
    assert (bulk.done, str(bulk.failed[0][1]).endswith("is cancelled already")) == (2, True)


def test_blocked_runs_are_given_another_try(cadenza: Project) -> None:
    blocked = [start(cadenza, "mended") for _ in range(2)]
    assert set(ids(cadenza, "blocked")) == set(blocked)
    stall = cadenza.folder / "stall.py"
    with cadenza.started("worker", "stall.py"):
        until(lambda: set(ids(cadenza, "blocked")) == set(blocked), "a worker that starts tries them")
        stall.write_text(SHOP.replace("nobody", "helper"), encoding="utf-8")
    resumed = cadenza("resume", "--workflow", "mended", "--yes")
    assert (resumed.code, "2 runs given to the workers" in resumed.err) == (0, True), resumed.err
    with cadenza.started("worker", "stall.py"):
        until(lambda: set(ids(cadenza, "completed")) == set(blocked), "the mended runs never ended")


def test_failed_runs_are_retried(cadenza: Project) -> None:
    first, _ = start(cadenza, "refused"), start(cadenza, "refused", topic="gift")
    retried = cadenza("retry", "--where", "topic=refund", "--yes")
    assert (retried.code, "1 run retried" in retried.err) == (0, True), retried.err
    (new,) = ids(cadenza, "pending")
    again = cadenza("retry", "--workflow", "refused", "--yes")
    assert (again.code, "1 run retried" in again.err, f"{first}: " in again.err) == (1, True, True), again.err
    assert new in again.err


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["cancel", "r1", "--status", "waiting"], "say one or the other"),
        (["cancel"], "say which"),
        (["resume"], "say which"),
        (["signal", "r1"], "say the message's name"),
        (["signal", "--status", "waiting", "r1", "go", "1"], "without RUN"),
        (["cancel", "--status", "wating"], "Did you mean 'waiting'"),
    ],
)
def test_a_choice_that_makes_no_sense_is_refused(cadenza: Project, command: list[str], says: str) -> None:
    refused = cadenza(*command)
    assert (refused.code, says in refused.err) == (2, True), refused.err
