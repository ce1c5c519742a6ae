"""Where a fork's journal stops being its origin's: the point at which a replay takes on an identity of its own.

Before it, the run is called what its origin is called, so that everything in the copied journal (random draws, child
run ids, inputs made of ``ctx.run_id``) comes out as it did. After it, what is begun is the fork's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from cadenza.durable import commands, events
from cadenza.durable.children import child_run_id

if TYPE_CHECKING:
    from cadenza.durable.machine import Machine


def leave_origin(machine: Machine, event: events.Forked, made: list[commands.Command]) -> list[commands.Command]:
    """Give ``machine`` its own run id, and what is open its own children and due times.

    Open timers are put off by the time between the last copied outcome and the fork, which the fork has not lived
    through. Children that have not ended are the origin's; the fork has its own, and its messages go to these.

    Returns:
        The commands ``made`` so far, as they are now.
    """
    late_us = max(0, event.at - machine.loop.now_us)
    machine.run_id = event.run_id
    machine.seed.become(event.run_id, machine.generation)
    changed: dict[int, commands.Command] = {}
    renamed: dict[str, str] = {}
    for future in machine.open.values():
        match future.command:
            case commands.StartTimer(fire_at=fire_at) as old:
                new: commands.StartTimer | commands.StartChild = msgspec.structs.replace(old, fire_at=fire_at + late_us)
            case commands.StartChild(path=path, run_id=run_id) as old:
                new = msgspec.structs.replace(old, run_id=child_run_id(event.run_id, machine.generation, path))
                machine.children.rename(run_id, new.run_id)
                renamed[run_id] = new.run_id
            case _:
                continue
        changed[id(old)] = new
        future.command = new
    for future in machine.open.values():
        match future.command:
            case commands.SendMessage(to=to) as sent if to in renamed:
                future.command = changed[id(sent)] = msgspec.structs.replace(sent, to=renamed[to])
            case _:
                pass
    return [changed.get(id(each), each) for each in made]
