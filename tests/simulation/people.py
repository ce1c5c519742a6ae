"""Those who use the engine: customers who start, write to and cancel runs, and persons who answer questions.

They live outside of the processes. What they ask for they ask again, at any process that is open, until it is
acknowledged; so whatever was acknowledged must have happened, and once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import TYPE_CHECKING, Any

from cadenza import Answer, Engine, InputInvalid, RunBlocked, RunCancelled, RunFailed, StoreError, UnknownName
from cadenza.durable import codec
from cadenza.durable.human import HumanTask
from cadenza.engine.store import OpenTaskRow
from cadenza.errors import UsageError
from tests.simulation import players
from tests.simulation.programs import Scene, Writer, scenes

if TYPE_CHECKING:
    from tests.simulation.machine_room import MachineRoom
    from tests.simulation.process import Process

SECOND_US = 1_000_000


class Errand:
    """One thing that somebody wants done."""

    def __init__(self, name: str, work: Callable[[Engine], Awaitable[None]]) -> None:
        self.name, self.work = name, work
        self.settled = False
        self.tries = 0


class Wait:
    """Somebody who waits at a process for the end of a run; ``heard`` is what was said."""

    def __init__(self, order: Order, process: Process) -> None:
        self.order, self.process = order, process
        self.heard = ""


class Order:
    """A run that a customer wants. ``acked`` once its start was acknowledged; ``run_id`` is known from then on."""

    def __init__(self, tag: str, programs: list[Scene], workflow: Any, state: dict[str, Any], priority: int) -> None:
        self.tag, self.programs, self.workflow, self.state, self.priority = tag, programs, workflow, state, priority
        self.run_id = ""
        self.replaced = 0


class People:
    """All of them."""

    def __init__(self, room: MachineRoom, chance: Random) -> None:
        self._room, self._chance = room, chance
        self._writer = Writer(chance)
        self.orders: list[Order] = []
        self.answers: dict[str, list[Any]] = {}
        self.errands: list[Errand] = []
        self._unsettled = 0
        self.forced: set[str] = set()
        self.waits: list[Wait] = []
        self.written: list[tuple[str, str, int]] = []
        room.auditor.on_task = self._asked
        room.auditor.on_blocked = self._blocked

    @property
    def satisfied(self) -> bool:
        """Whether everything that was wanted was acknowledged."""
        return not self._unsettled

    # --- errands --------------------------------------------------------------------------------------------------

    def want(self, name: str, delay_us: int, work: Callable[[Engine], Awaitable[None]]) -> None:
        errand = Errand(name, work)
        self.errands.append(errand)
        self._unsettled += 1
        self._room.scheduler.later(delay_us, lambda: self._try(errand))

    def _try(self, errand: Errand) -> None:
        if errand.settled:
            return
        chance, processes = self._chance, [each for each in self._room.processes if each.serving]
        if processes:
            process = chance.choice(processes)
            errand.tries += 1
            process.spawn(self._attempt(process.engine, process.name, errand))
        again_s = chance.uniform(0.5, 4.0) * min(errand.tries + 1, 4)
        self._room.scheduler.later(round(again_s * SECOND_US), lambda: self._try(errand))

    async def _attempt(self, engine: Engine, where: str, errand: Errand) -> None:
        try:
            await errand.work(engine)
        except StoreError as error:
            self._room.scheduler.trace(where, "could not", errand.name, "because of", type(error).__name__)
            return
        except UsageError as error:
            if "not open" in str(error):
                return  # the engine has just been closed
            self._room.violate(f"{errand.name} was refused: {error}", error)
        if not errand.settled:
            errand.settled = True
            self._unsettled -= 1
            self._room.scheduler.trace(where, "acknowledges", errand.name)

    # --- customers ------------------------------------------------------------------------------------------------

    def order(self, count: int, within_us: int) -> None:
        """Want ``count`` runs, some time within."""
        chance = self._chance
        for number in range(count):
            programs = self._writer.programs()
            state: dict[str, Any] = {"tag": f"t{number}", "programs": programs, "got": []}
            if chance.random() < 0.15:
                state["mistake"] = chance.randrange(len(programs))
            workflow = players.play
            if chance.random() < 0.25:
                state = {"tag": f"t{number}", "programs": programs[:1], "hall": chance.choice(("red", "blue"))}
                workflow, programs = players.play_in_hall, programs[:1]
            order = Order(f"t{number}", programs, workflow, state, chance.choice((0, 0, 1, 5)))
            self.orders.append(order)
            self.want(f"start {order.tag}", round(chance.random() * within_us), self._start(order))

    def _start(self, order: Order) -> Callable[[Engine], Awaitable[None]]:
        async def start(engine: Engine) -> None:
            handle = await engine.start(
                order.workflow, order.state, id=order.tag, on_conflict="join", priority=order.priority
            )
            if order.run_id:
                if order.run_id != handle.run_id and not order.replaced:
                    self._room.violate(f"{order.tag} is {order.run_id}, and then {handle.run_id}")
                return
            order.run_id = handle.run_id
            self._follow(order)

        return start

    def _follow(self, order: Order) -> None:
        """The run is accepted: write to it, and perhaps cancel it."""
        chance = self._chance
        if chance.random() < 0.3:
            self._await(order)
        for program in order.programs:
            for scene in scenes(program):
                if scene["op"] == "collect":
                    self._write(order, f"mail-{scene['id']}", 0, scene["n"])
        if chance.random() < 0.08 and "r" not in order.tag:
            self.want(f"replace {order.tag}", round(chance.expovariate(1 / 8.0) * SECOND_US), self._replace(order))
        if chance.random() < 0.25:
            self.want(f"cancel {order.tag}", round(chance.expovariate(1 / 8.0) * SECOND_US), self._cancel(order))

    def _write(self, order: Order, name: str, number: int, count: int) -> None:
        """The next message is written when this one is acknowledged, so that their order is certain."""
        if number == count:
            return

        async def write(engine: Engine) -> None:
            if not engine.find(order.run_id).ended:
                try:
                    await engine.signal(order.run_id, name, number, key=f"{name}:{number}")
                    self.written.append((order.run_id, name, number))
                except UsageError:
                    if not engine.find(order.run_id).ended:
                        raise
            if written:
                return
            written.append(number)
            self._write(order, name, number + 1, count)

        written: list[int] = []
        delay_s = self._chance.expovariate(1 / 2.0)
        self.want(f"write {name}:{number} to {order.tag}", round(delay_s * SECOND_US), write)

    def _cancel(self, order: Order) -> Callable[[Engine], Awaitable[None]]:
        """The run, or one of its children; by force, or so that it can clean up."""
        chance = self._chance
        forced, child, draw = chance.random() < 0.2, chance.random() < 0.3, chance.random()

        async def cancel(engine: Engine) -> None:
            family = [each for each in self._room.auditor.books if each.startswith(f"{order.run_id}.")]
            run_id = family[int(draw * len(family))] if child and family else order.run_id
            try:
                if forced:
                    self.forced.add(run_id)
                await engine.cancel(run_id, "the customer went away", force=forced)
            except UsageError:
                if not engine.find(run_id).ended:
                    raise

        return cancel

    def _replace(self, order: Order) -> Callable[[Engine], Awaitable[None]]:
        """The id goes to a new run of the same programs; a start that is tried again makes a run of its own."""

        async def replace(engine: Engine) -> None:
            order.replaced += 1
            state = {**order.state, "tag": f"{order.tag}r{order.replaced}"}
            handle = await engine.start(order.workflow, state, id=order.tag, on_conflict="replace")
            self.orders.append(replaced := Order(state["tag"], order.programs, order.workflow, state, 0))
            replaced.run_id = handle.run_id
            self._follow(replaced)

        return replace

    def _await(self, order: Order) -> None:
        """Somebody waits for the result, as long as the process lives."""
        processes = [each for each in self._room.processes if each.serving]
        if processes:
            wait = Wait(order, self._chance.choice(processes))
            self.waits.append(wait)
            wait.process.spawn(self._hear(wait))

    async def _hear(self, wait: Wait) -> None:
        engine, run_id = wait.process.engine, wait.order.run_id
        while not wait.heard:
            try:
                await engine.handle(run_id).result()
                wait.heard = "completed"
            except RunFailed:
                wait.heard = "failed"
            except RunCancelled:
                wait.heard = "cancelled"
            except (RunBlocked, StoreError):
                await asyncio.sleep(1.0)
            except UsageError:
                return  # the engine was closed
        self._room.scheduler.trace(wait.process.name, "hears that", run_id, wait.heard)
        if self._room.auditor.books[run_id].status != wait.heard:
            self._room.violate(f"{wait.process.name} heard that {run_id} {wait.heard}, and that is not on disk")

    # --- operators ------------------------------------------------------------------------------------------------

    def deploy(self) -> None:
        """The mistake is mended; what it has blocked may go on."""
        self._room.world.deployed = True
        for book in self._room.auditor.books.values():
            if book.status == "blocked":
                self._blocked(book.run_id)

    def _blocked(self, run_id: str) -> None:
        self._room.faults.counts["run blocked"] += 1
        if self._room.world.deployed:

            async def resume(engine: Engine) -> None:
                await engine.resume(run_id)

            self.want(f"resume {run_id}", round(self._chance.random() * SECOND_US), resume)

    # --- persons --------------------------------------------------------------------------------------------------

    def _asked(self, row: OpenTaskRow) -> None:
        """A question is open: one person answers it, sometimes two."""
        chance = self._chance
        task: HumanTask = codec.decode(row.task, HumanTask, "a task")
        for person in range(2 if chance.random() < 0.3 else 1):
            delay_s = chance.choice((0.2, 2.0, 8.0)) * chance.random()
            name = f"answer {row.run_id} {row.path} by {person}"
            self.want(name, round(delay_s * SECOND_US), self._answer(row, task, person))

    def _answer(self, row: OpenTaskRow, task: HumanTask, person: int) -> Callable[[Engine], Awaitable[None]]:
        async def answer(engine: Engine) -> None:
            if not any(each == row for each, _ in engine.tasks(row.run_id)):
                return  # no longer asked
            given = self._say(row, task, person)
            try:
                await engine.answer(row.run_id, row.path, given, asked_at=row.asked_at)
            except (UnknownName, InputInvalid) as error:
                self._room.scheduler.trace("answer came too late", row.run_id, row.path, type(error).__name__)
            except UsageError as error:
                if "answered a moment ago" not in str(error) and not engine.find(row.run_id).ended:
                    raise

        return answer

    def _say(self, row: OpenTaskRow, task: HumanTask, person: int) -> Answer:
        if task.kind == "respond":
            value = f"said:{task.title}:{person}"
            self.answers.setdefault(task.title, []).append(value)
            return Answer(value=value, by=str(person))
        key = task.details["key"]
        if "(" in task.title:
            key += "/" + task.title.partition("(")[2].partition(")")[0]
        token = self._room.world.inquire(key, self._room.auditor.books[row.run_id].epoch)
        self._room.faults.counts["a person resolved a doubt"] += 1
        if token:
            return Answer(choice="done", value=token, by=str(person))
        return Answer(choice="failed" if self._chance.random() < 0.15 else "not_done", by=str(person))
