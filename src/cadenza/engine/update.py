"""Updates: a message to a run, and its answer, for a caller in any process.

The update lies in the run's inbox like any message, with an id; the answer is a record in the run's journal with the
same id. So the caller reads the answer where the run has it anyway, and finds it again if it asks with the same key.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from cadenza.durable import codec, events
from cadenza.durable.path import is_label
from cadenza.engine.run_id import new_run_id
from cadenza.engine.store import Post, Posting, RunRow, perform
from cadenza.errors import UpdateFailed, UpdateRefused, UsageError

if TYPE_CHECKING:
    from cadenza.engine.engine import Engine

UPDATE_S = 30.0


async def update(
    engine: Engine, run_id: str, name: str, value: Any = None, *, key: str = "", timeout_s: float = UPDATE_S
) -> Any:
    """See Engine.update."""
    if not is_label(name):
        raise UsageError(f"{name!r} is no name of an update; use letters, digits, '_', '-' and '.'")
    row = engine.find(run_id)
    now = engine.clock.now()
    id = key or new_run_id(now, engine.chance)
    letter = events.UpdateReceived(at=now, id=id, name=name, value=codec.encode(value, Any, f"the update {name!r}"))
    inquiry = Inquiry(engine, row, id, first_seq=1 if key else row.first_seq)
    if key and (answer := inquiry.look()) is not None:
        return _result(row, name, answer)
    await perform(engine.store, Post(Posting(row.run_id, letter, f"update:{id}", bounded=True), now))
    if engine.worker is not None:
        engine.worker.look()
    try:
        async with asyncio.timeout(timeout_s):
            while (answer := inquiry.look()) is None:  # noqa: ASYNC110  # other processes answer: it can only be looked for
                await asyncio.sleep(engine.options.poll_busy_s)
    except TimeoutError:
        raise UpdateFailed(row.run_id, name, _why_not(engine, row, timeout_s, id)) from None
    return _result(row, name, answer)


class Inquiry:
    """Looks for the answer in what was added to the journal since the last look."""

    def __init__(self, engine: Engine, row: RunRow, id: str, first_seq: int) -> None:
        self._store, self._row, self._id, self._next_seq = engine.store, row, id, first_seq
        self._version = -1
        self._received = False

    def look(self) -> events.UpdateAnswered | str | None:
        """The answer, or why there will be none; None if it may still come."""
        version = self._store.version()
        if version == self._version:
            return None
        self._version = version
        ended = self._ended()  # before the journal is read: what is journaled last is seen
        for event in self._store.events(self._row.no, self._next_seq):
            self._next_seq += 1
            match event:
                case events.UpdateAnswered(id=self._id):
                    return event
                case events.UpdateReceived(id=self._id):
                    self._received = True
                case events.RunContinued() if self._received:
                    return "the run continued as new without an answer; send it again"
                case _:
                    pass
        return "the run has ended without an answer" if ended else None

    def _ended(self) -> bool:
        row = self._store.run(self._row.run_id)
        return row is None or row.ended


def _result(row: RunRow, name: str, answer: events.UpdateAnswered | str) -> Any:
    if isinstance(answer, str):
        raise UpdateFailed(row.run_id, name, answer)
    if answer.refused:
        raise UpdateRefused(row.run_id, name, answer.failure)
    if answer.failure is not None:
        raise UpdateFailed(row.run_id, name, str(answer.failure), answer.failure)
    return codec.decode(answer.value, Any, f"the answer to the update {name!r}")


def _why_not(engine: Engine, row: RunRow, timeout_s: float, id: str) -> str:
    now = engine.find(row.run_id)
    why = {
        "blocked": "the run is blocked, and takes it when it goes on",
        "pending": "no worker has taken the run up (start one: cadenza worker FILE)",
        "ready": "no worker has taken the run up (start one: cadenza worker FILE)",
    }.get(now.shown_status, f"the run is {now.status}")
    return f"no answer in {timeout_s:g} s; {why}. It may still come: ask again with the key {id!r}"
