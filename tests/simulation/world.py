"""The world that steps act upon: a ledger of effects outside of any journal. It records, and says what must not be.

A *call* is one logical call of a step, by whatever process and however often it is tried; a *visit* is one try of it.

A person and an undo speak for the world: "it has not happened" (or "it is undone") also means that the world refuses
a visit which is still on its way, as a bank stops a payment. That covers only visits of a process that has lost the
run in the middle; a late visit of the run's own owner is a violation. A reconcile hook only looks.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any

from cadenza.durable.scope import current_scope
from tests.simulation import stage
from tests.simulation.auditor import Auditor, Book

if TYPE_CHECKING:
    from tests.simulation.process import Process

IRREVERSIBLE = {"pay", "wire", "bill", "stamp", "seal"}
"""Kinds of calls that must not happen twice."""
READS = {"read", "glance"}
COMPENSATABLE = {"book", "hire"}
UNDO = {"unbook", "unhire", "retract"}
THREADED = {"press", "hire", "stamp"}
"""Their threads go on when nobody waits any more."""
FOLLOWED = {"put", "pulse", "pay", "wire", "bill", "book", "notes"}
"""Calls of steps that workflow code makes itself."""
JOURNALED = {"read", *FOLLOWED, *THREADED} - {"notes"}
"""Calls whose result is the token that names them, or their reading."""
JUMPS = "wall clock jumps forward"
TROUBLES = ("fails before", "fails after", "slow", "hangs before", "hangs after")
HANG_S = 10_000.0


class Hiccup(Exception):
    """The world failed; whether it acted is not said."""


class Refused(Exception):
    """The world does not act on this visit any more."""


class Call:
    """One logical call, and what became of it in the world."""

    def __init__(self, who: str, kind: str, key: str, given: str, troubles: list[str]) -> None:
        self.who, self.kind, self.key, self.given = who, kind, key, given
        self.troubles = troubles
        self.token = f"{kind}:{who}"
        self.visits = self.done = 0
        self.bars: list[tuple[int, int]] = []
        """Visits up to this number, of owners up to this epoch, come too late."""


class Visit:
    """One try: ``before``, ``act``, ``after``, as a step's code does them."""

    def __init__(self, world: World, call: Call, process: Process, run_id: str, trouble: str) -> None:
        self._world, self.call, self._process, self._run_id = world, call, process, run_id
        self._trouble, self.epoch = trouble, _epoch()
        call.visits += 1
        self.number = call.visits

    async def before(self) -> None:
        """On the way there; nothing has happened yet."""
        if self._trouble == "hangs before":
            await asyncio.sleep(HANG_S)
        await self._world.travel(slow=self._trouble == "slow")
        if self._trouble == "fails before":
            raise Hiccup(f"{self.call.token}: not reached")

    def act(self) -> str:
        """It happens, now."""
        self._world.acted(self, self._process, self._run_id)
        return self.call.token

    async def after(self) -> None:
        """On the way back; it has happened."""
        if self._trouble == "hangs after":
            await asyncio.sleep(HANG_S)
        await self._world.travel(slow=False)
        self.come_back()

    def come_back(self) -> None:
        if self._trouble == "fails after":
            raise Hiccup(f"{self.call.token}: the answer was lost")


class World:
    """All calls, by who made them and by key."""

    def __init__(self, chance: Random, auditor: Auditor, violate: Any, trace: Any, counts: Counter[str]) -> None:
        self._chance, self._auditor = chance, auditor
        self._violate, self._trace, self.counts = violate, trace, counts
        self.calls: dict[str, Call] = {}
        self.by_key: dict[str, Call] = {}
        self._closed: set[str] = set()
        self._undone: set[str] = set()
        self._reads = 0
        self.deployed = False
        """Whether the workflows' mistake is mended; from then on it is."""
        self._trouble = chance.choice((0.05, 0.2, 0.5))
        self._travel_s = chance.choice((0.0, 0.05, 0.5, 2.0))

    # --- what steps do --------------------------------------------------------------------------------------------

    def begin(self, kind: str, who: str, key: str, given: Any) -> Visit:
        """A step's code begins: is that right, as far as anybody can tell from what is on disk?"""
        process = stage.current()
        run_id, generation, path = key.split(":", 2)
        book = self._auditor.books[run_id]
        call = self._call(kind, who, key, repr(given))
        trouble = call.troubles.pop() if call.troubles else ""
        visit = Visit(self, call, process, run_id, trouble)
        self._trace(process.name, "begins", call.token, f"#{visit.number}", trouble)
        if call.given != repr(given) and kind not in READS:  # what a reading followed upon may be lost
            self._violate(f"{key} was {call.given}, and is now {given!r}")
        self._check_causes(call, given)
        if kind not in READS:
            self._check(process, book, call, (int(generation), path))
        if visit.number > 1:
            self.counts["read repeated" if kind in READS else "effect repeated with its key"] += 1
        process.faults.warm("begin effect")
        return visit

    def _call(self, kind: str, who: str, key: str, given: str) -> Call:
        call = self.calls.get(f"{kind}:{who}")
        if call is None:
            call = self.calls[f"{kind}:{who}"] = Call(who, kind, key, given, self._draw_troubles(kind))
            if key in self.by_key:
                self._violate(f"{key} names both {self.by_key[key].token} and {call.token}")
            self.by_key[key] = call
        elif call.key != key:
            self._violate(f"{call.token} has two keys: {call.key} and {key}")
        return call

    def _check_causes(self, call: Call, given: Any) -> None:
        """What a call was given is on disk; only reads may follow upon reads that are not."""
        for token in given if isinstance(given, list) else ():
            kind = token.partition(":")[0]
            if kind in JOURNALED and token not in self._auditor.tokens and not (kind == call.kind == "read"):
                self._violate(f"{call.token} begins upon {token}, which is not on disk")

    def _check(self, process: Process, book: Book, call: Call, place: tuple[int, str]) -> None:
        owns = book.owner == process.name and book.epoch == _epoch()
        if owns and call.kind in FOLLOWED and self.decide(0.5) and not book.asks_for(place[1]):
            self._violate(f"{call.token} begins, and what is on disk does not ask for it")
        if owns and place in book.outcomes and call.kind not in THREADED:
            self._violate(f"{call.token} begins again, and its outcome is on disk")
        if owns and place in book.memos:
            self._violate(f"{call.token} begins again, and its result is saved")
        if not owns:
            self.counts["effect begun by a stale owner"] += 1
            if book.owner not in ("", process.name) and call.kind not in THREADED and not self.counts[JUMPS]:
                self._violate(f"{call.token} begins at {process.name}; {book.owner} owns {book.run_id}")
        if call.kind in IRREVERSIBLE and not owns and call.kind not in THREADED:
            self._violate(f"{call.token} begins at {process.name}, not in the epoch of {book.owner or 'nobody'}")
        if (call.kind in IRREVERSIBLE or call.kind in UNDO) and owns and place not in book.intents:
            self._violate(f"{call.token} begins without an intent on disk")

    def acted(self, visit: Visit, process: Process, run_id: str) -> None:
        """The effect itself."""
        call = visit.call
        barred = any(visit.number <= number and visit.epoch <= epoch for number, epoch in call.bars)
        undone = call.kind in COMPENSATABLE and call.key in self._undone
        late = barred or undone or (call.kind in THREADED and call.key in self._closed)
        if late and self._auditor.books[run_id].owner != process.name:
            self.counts["late effect refused by the world"] += 1
            raise Refused(f"{call.token}: too late")
        if barred or undone:
            self._violate(f"{call.token} happens at its owner after it was undone, or known not to have happened")
        call.done += 1
        self._trace(process.name, "does", call.token)
        self.counts[f"effect: {_class_of(call.kind)}"] += 1
        if call.kind in IRREVERSIBLE and call.done > 1:
            self._violate(f"{call.token} has happened {call.done} times")
        process.faults.warm("end effect")

    def undo(self, undo_of: str) -> None:
        """What was done under this key is undone, and what is on its way there is stopped."""
        self._undone.add(undo_of)
        self._bar(undo_of, _epoch())

    def look_up(self, key: str) -> str | None:
        """Has it happened? Its token, or None: so far it has not."""
        call = self.by_key.get(key)
        return call.token if call is not None and call.done else None

    def inquire(self, key: str, epoch: int) -> str | None:
        """The same, for a person, who has it stopped if it has not happened. ``epoch`` is that of the run's owner."""
        token = self.look_up(key)
        if token is None:
            self._bar(key, epoch)
        return token

    def _bar(self, key: str, epoch: int) -> None:
        self._closed.add(key)
        call = self.by_key.get(key)
        if call is not None:
            call.bars.append((call.visits, epoch))

    def was_undone(self, call: Call) -> bool:
        return call.key in self._undone

    async def sub_result(self, kind: str, who: str, key: str) -> str:
        """What a memo of this name keeps; its key is the step's, with the memo's name."""
        visit = self.begin(kind, who, f"{key}/{kind}", "")
        if kind in IRREVERSIBLE:
            token = visit.act()
        else:
            await visit.before()
            token = visit.act()
        await visit.after()
        return token

    def read(self, who: str) -> str:
        """Something new at every reading."""
        self._reads += 1
        return f"read:{who}:{self._reads}"

    # --- chance ---------------------------------------------------------------------------------------------------

    def _draw_troubles(self, kind: str) -> list[str]:
        """What will go wrong with the visits of a call, last first; a bounded number, so that retries are enough."""
        chance = self._chance
        if chance.random() >= self._trouble:
            return []
        return [chance.choice(TROUBLES) for _ in range(chance.choice((1, 1, 2, 3)))]

    async def travel(self, *, slow: bool) -> None:
        """A while on the way."""
        chance = self._chance
        if slow:
            await asyncio.sleep(chance.uniform(1.0, 9.0))
        elif self._travel_s and chance.random() < 0.7:
            await asyncio.sleep(chance.expovariate(1 / self._travel_s))

    def thread_delays(self) -> tuple[int, int]:
        chance = self._chance
        long_s = 8.0 if chance.random() < 0.15 else 0.3
        return round(chance.random() * long_s * 1_000_000), round(chance.random() * 500_000)

    def decide(self, share: float) -> bool:
        return self._chance.random() < share


def _epoch() -> int:
    """The epoch in which the running step's owner believes to own the run."""
    return current_scope.get()._run.row.epoch


def _class_of(kind: str) -> str:
    if kind in IRREVERSIBLE:
        return "irreversible"
    if kind in COMPENSATABLE:
        return "compensatable"
    return "undo" if kind in UNDO else "idempotent"
