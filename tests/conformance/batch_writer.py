"""A process that writes batches to a SQLite store until it is killed; see test_torn_batches.py.

Usage: python -m tests.conformance.batch_writer FILE one|many [inline]
"""

import sys
from pathlib import Path
from typing import Any

from cadenza.durable.events import RunCompleted
from cadenza.engine.store import (
    BLOB_BYTES_MIN,
    Change,
    Claim,
    Create,
    Operation,
    OwnerRow,
    Post,
    Posting,
    Renew,
    Retire,
    Terminate,
    Unblock,
)
from tests.conformance.stores import NOW, SECOND, Client, append, completed, message, new_run, sqlite, task

RUNS = 12
LARGE = b'"' + b"y" * BLOB_BYTES_MIN * 3 + b'"'


def prepare(client: Client) -> None:
    """A store with runs in every condition."""
    client.renew("one", NOW + 90 * SECOND)
    client.renew("two", NOW + 90 * SECOND)
    for number in range(RUNS):
        client.owned(f"many{number}")
    parent = client.owned("parent", "two")
    client.append(parent, completed(), tasks_opened=(task("parent"),))
    client.owned("parent.child", "one", parent="parent", parent_path="@run:flow#1")
    client.leave(client.owned("asleep", "two"), "waiting", wake_at=NOW + SECOND)
    client.leave(client.owned("stuck", "two"), "blocked")
    client.post("parent", key="k")


def one_of_each(client: Client) -> list[Operation[Any]]:
    """A batch with every operation, each of which changes something."""
    parent = client.row("parent")
    return [
        Renew(OwnerRow("three", "here", 3, NOW + 90 * SECOND)),
        Create(new_run("new", business_id="order", input=LARGE)),
        Post(Posting("asleep", message(value=LARGE), key="k"), NOW),
        append(
            parent,
            2,
            completed("a#1", LARGE),
            completed("b#1"),
            consumed=(client.inbox("parent")[0].id,),
            postings=(Posting("new", message("told")),),
            children=(new_run("parent.other", parent="parent"),),
            tasks_closed=("@ask#1",),
        ),
        append(parent, 4, RunCompleted(at=NOW, value=b"1"), change=Change("completed", ended_at=NOW)),
        append(parent, 5, completed("too late#1")),
        Terminate("parent.child", "test", NOW),
        Unblock("stuck", NOW),
        Retire("one", NOW),
        Claim("three", 3, NOW + 2 * SECOND),
    ]


def write_one(path: Path, inline: bool) -> None:
    with sqlite(path, inline=inline) as client:
        client.batch(one_of_each(client))


def write_many(path: Path, inline: bool) -> None:
    """Batch after batch, one event to each of the runs; the number of each batch is told when it is on disk."""
    with sqlite(path, inline=inline) as client:
        rows = [client.row(f"many{number}") for number in range(RUNS)]
        number = len(client.store.events(rows[0].no))
        while True:
            value = LARGE if number % 2 else b"1"
            for _, error in client.batch([append(row, number, completed(f"s#{number}", value)) for row in rows]):
                assert error is None, error
            number += 1
            print(number, flush=True)


if __name__ == "__main__":
    {"one": write_one, "many": write_many}[sys.argv[2]](Path(sys.argv[1]), "inline" in sys.argv)
