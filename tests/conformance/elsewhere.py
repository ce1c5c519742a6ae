"""Replays journals in a fresh process: another hash seed, another heap, and many runs at once.

``python -m tests.conformance.elsewhere FILE SEED`` reads a list of (workflow, journal) and prints what each replay
asked for and how it ended. ``replays_elsewhere`` starts it and gives that back.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from cadenza.durable.define import find_workflow
from cadenza.durable.events import AnyEvent, Patched, decode_event, encode_event
from cadenza.durable.machine import Machine

ROOT = Path(__file__).parents[2]
AT_ONCE = 12
Journal = Sequence[AnyEvent]


def replays_elsewhere(
    journals: Sequence[tuple[str, Journal]], folder: Path, seed: int
) -> list[tuple[list[str], Any, list[str]]]:
    """The commands, the end, and what is left open, of each journal, as another process finds them."""
    file = folder / f"journals-{seed}.msgpack"
    file.write_bytes(
        msgspec.msgpack.encode([(name, [encode_event(event) for event in each]) for name, each in journals])
    )
    path = os.pathsep.join([str(ROOT), *filter(None, sys.path)])  # the same Cadenza as here, wherever it came from
    environment = os.environ | {"PYTHONHASHSEED": "random", "PYTHONPATH": path}
    command = [sys.executable, "-W", "error", "-m", "tests.conformance.elsewhere", str(file), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return [(trace, told, left_open) for trace, told, left_open in json.loads(done.stdout)]


class Heap:
    """Garbage of all sizes that comes and goes, so that addresses and collections fall differently each time."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.kept: list[Any] = []

    def stir(self) -> None:
        draw = self.random.random
        for _ in range(int(8 * draw())):
            cycle: list[Any] = [bytes(int(3_000 * draw())), {str(draw()): draw()}, object()]
            cycle.append(cycle)
            self.kept.append(cycle)
        self.random.shuffle(self.kept)
        del self.kept[int(len(self.kept) * draw()) :]
        if draw() < 0.02:
            gc.set_threshold(20 + int(700 * draw()), 10, 10)


def main(file: str, seed: str) -> None:
    import tests.conformance.corpus
    import tests.conformance.programs  # noqa: F401 - both register workflows
    from tests.conformance.properties import ending_of
    from tests.conformance.world import open_in

    heap = Heap(Random(f"{seed}:{hash('another each time')}"))
    waiting = [
        (index, find_workflow(name), [decode_event(raw) for raw in journal])
        for index, (name, journal) in enumerate(msgspec.msgpack.decode(Path(file).read_bytes()))
    ]
    found: dict[int, Any] = {}
    heap.random.shuffle(waiting)
    under_way: list[tuple[int, Machine, list[AnyEvent]]] = []
    while waiting or under_way:
        heap.stir()
        while waiting and len(under_way) < AT_ONCE:
            index, workflow, journal = waiting.pop()
            is_patched = any(isinstance(event, Patched) for event in journal)
            cut = len(journal) if is_patched else heap.random.randint(1, len(journal))
            machine = Machine(workflow, [])
            machine.replay(journal[:cut])
            under_way.append((index, machine, journal[: cut - 1 : -1]))
        place = heap.random.randrange(len(under_way))
        index, machine, left = under_way[place]
        if left:
            machine.apply(left.pop())
        else:
            del under_way[place]
            found[index] = machine.trace, ending_of(machine), open_in(machine)
            assert machine.evict() == []
    print(json.dumps([found[index] for index in range(len(found))], default=repr))


if __name__ == "__main__":
    main(*sys.argv[1:])
