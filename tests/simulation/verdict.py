"""At the end of a simulation: did everything that was accepted come to the right end?"""

from __future__ import annotations

from typing import Any

import msgspec

from cadenza.durable import events
from cadenza.durable.define import find_workflow
from cadenza.durable.machine import Machine
from cadenza.errors import CadenzaError
from tests.simulation.auditor import Book
from tests.simulation.machine_room import MachineRoom
from tests.simulation.people import Order
from tests.simulation.programs import Scene
from tests.simulation.world import COMPENSATABLE

ENDINGS = {"completed": events.RunCompleted, "failed": events.RunFailed, "cancelled": events.RunCancelled}


class Verdict:
    """Judges one room; what is wrong goes to ``room.violate``."""

    def __init__(self, room: MachineRoom) -> None:
        self._room = room
        self._books = room.auditor.books

    def judge(self) -> None:
        """All of it, unless something was wrong before."""
        room = self._room
        if room.problems:
            return
        self._nothing_is_stuck()
        if room.problems:
            return
        orders = {order.run_id: order for order in room.people.orders}
        if lost := orders.keys() - self._books.keys():
            room.violate(f"{lost} were acknowledged, and do not exist")
            return
        for book in self._books.values():
            self._journal_is_kept(book)
            self._replays(book)
            self._messages(book)
            self._is_undone(book)
        for order in orders.values():
            self._result(order)
        for run_id, name, number in room.people.written:
            self._letter_is_kept(run_id, name, number)

    def _nothing_is_stuck(self) -> None:
        room = self._room
        for book in self._books.values():
            if not book.ended:
                row = room.disk.reads.run(book.run_id)
                where = f"{row.status} in epoch {row.epoch}, owner {row.owner or 'nobody'}"
                room.violate(f"{book.run_id} never ended: it is {where}, and its journal ends with {book.events[-1]}")
        for wait in room.people.waits:
            if wait.process.serving and not wait.heard:
                room.violate(f"{wait.process.name} was not told that {wait.order.run_id} has ended")
        for errand in room.people.errands:
            if not errand.settled:
                room.violate(f"nobody could {errand.name} in {errand.tries} tries")

    def _journal_is_kept(self, book: Book) -> None:
        room = self._room
        row = room.disk.reads.run(book.run_id)
        if row is None or row.status != book.status:
            room.violate(f"{book.run_id} is {row and row.status}; it was {book.status}")
        elif room.disk.reads.events(row.no) != book.events:
            room.violate(f"{book.run_id}: its journal is not what was written")
        if not isinstance(book.events[-1], ENDINGS[book.status]):
            room.violate(f"{book.run_id} is {book.status}, and its journal ends with {book.events[-1]}")
        room.counts[f"run {book.status}"] += 1

    def _replays(self, book: Book) -> None:
        """Each generation, on a fresh machine."""
        workflow = find_workflow(book.workflow)
        starts = [index for index, event in enumerate(book.events) if isinstance(event, events.RunStarted)]
        for first, end in zip(starts, [*starts[1:], len(book.events)], strict=True):
            machine = Machine(workflow)
            try:
                machine.replay(book.events[first:end])
            except CadenzaError as error:
                self._room.violate(f"{book.run_id}: its replay fails: {error}", error)
            finally:
                machine.evict()

    def _messages(self, book: Book) -> None:
        """Each message once, and in order; each name has one sender, who counts."""
        heard: dict[str, list[int]] = {}
        for event in book.events:
            if isinstance(event, events.MessageReceived):
                heard.setdefault(event.name, []).append(msgspec.json.decode(event.value))
        for name, numbers in heard.items():
            if numbers != list(range(len(numbers))):
                self._room.violate(f"{book.run_id} got {name} as {numbers}")

    def _letter_is_kept(self, run_id: str, name: str, number: int) -> None:
        """An acknowledged message is in the journal, or was not read before the end."""
        room = self._room
        letters = [letter.event for letter in room.disk.reads.letters(room.disk.reads.run(run_id).no)]
        for event in (*self._books[run_id].events, *letters):
            if isinstance(event, events.MessageReceived) and event.name == name and event.value == b"%d" % number:
                return
        room.violate(f"{run_id}: the message {name}:{number} was acknowledged, and is lost")

    def _is_undone(self, book: Book) -> None:
        """What can be undone was undone if the run failed or was cancelled, and not if it completed."""
        if book.run_id in self._room.people.forced:
            return
        for call in self._room.world.calls.values():
            if call.kind not in COMPENSATABLE or not call.key.startswith(f"{book.run_id}:"):
                continue
            undone = self._room.world.was_undone(call)
            if book.status == "completed":
                if undone:
                    self._room.violate(f"{call.token} was undone, and its run completed")
            elif call.done and not undone:
                self._room.violate(f"{call.token} was done, its run {book.status}, and it was not undone")
            elif undone:
                self._room.counts["undone"] += 1

    # --- results --------------------------------------------------------------------------------------------------

    def _result(self, order: Order) -> None:
        book = self._books[order.run_id]
        last = book.events[-1]
        if isinstance(last, events.RunCompleted):
            values = msgspec.json.decode(last.value)
            if len(values) != len(order.programs):
                self._room.violate(f"{order.tag}: {len(values)} programs were played, of {len(order.programs)}")
            for program, value in zip(order.programs, values, strict=False):
                if problem := self._wrong(program, value, order.tag):
                    self._room.violate(f"{order.tag}: {problem}")
        elif isinstance(last, events.RunCancelled):
            if book.cancelled_at < 0 and order.run_id not in self._room.people.forced:
                self._room.violate(f"{order.tag} was cancelled, and nobody asked for it")
        elif not any(self._fails(event) for event in book.events):
            self._room.violate(f"{order.tag} failed, and nothing in it did: {last}")

    def _fails(self, event: events.AnyEvent) -> bool:
        if isinstance(event, events.ChildEnded):
            return event.status != "completed"
        return isinstance(event, events.StepFailed)

    def _wrong(self, scene: Scene, value: Any, tag: str) -> str:
        """What is wrong with the value of a scene; nothing, mostly."""
        who = f"{tag}/{scene['id']}"
        match scene["op"]:
            case "seq" | "gather" | "group":
                if not isinstance(value, list) or len(value) != len(scene["parts"]):
                    return f"{who} has the value {value!r}"
                found = (self._wrong(part, each, tag) for part, each in zip(scene["parts"], value, strict=True))
                return next(filter(None, found), "")
            case "race":
                return self._wrong(scene["parts"][value[0]], value[1], tag)
            case "timeout" | "try" | "shield":
                gave_up = value == {"timeout": "timeout", "try": "caught"}.get(scene["op"], ...)
                return "" if gave_up else self._wrong(scene["part"], value, tag)
            case "child":
                return self._wrong(scene["part"], value, who)
            case op:
                return "" if self._is_right(scene, value, who) else f"{op} {who} has the value {value!r}"

    def _is_right(self, scene: Scene, value: Any, who: str) -> bool:
        room = self._room
        match scene["op"]:
            case "read":
                return str(value).startswith(f"read:{who}:") and value in room.auditor.tokens
            case "sleep":
                return value is True
            case "patched":  # a process that ends at this point may leave it undecided, and it is then taken as passed
                return value is True or (value is False and any(book.epoch > 1 for book in self._books.values()))
            case "dice":
                return str(value).startswith("dice:")
            case "ask":
                return value in room.people.answers.get(who, ())
            case "collect" | "courier":
                return value == list(range(scene["n"]))
            case "notes" | "album":
                kinds = ("glance", "ink", "seal") if scene["op"] == "notes" else ("left", "middle", "right")
                return value == [f"{kind}:{who}" for kind in kinds]
            case op:
                call = room.world.calls.get(f"{'put' if op == 'promise' else op}:{who}")
                return call is not None and call.done > 0 and value == call.token
