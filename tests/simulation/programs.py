"""Random workflows, as data: what a run of ``players.play`` does. A program is a tree of scenes.

    {"op": …, "id": 7, …}        ``id`` is unique in a program; with the run's tag it names one logical call

Leaves call a step, wait, ask, or talk to other runs; the others compose scenes.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

Scene = dict[str, Any]

MISTAKE = "a mistake that the next deploy mends"
"""What a run is blocked by that plays a program with a mistake."""
STEPS = ("read", "put", "pulse", "press", "pay", "wire", "bill", "stamp", "book", "hire", "notes", "album")
STEP_WEIGHTS = (5, 6, 1, 2, 4, 3, 2, 2, 4, 1, 2, 1)
LEAVES = ("step", "sleep", "ask", "collect", "courier", "child", "promise", "patched", "dice", "doomed")
LEAF_WEIGHTS = (26, 5, 3, 3, 2, 2, 2, 1, 1, 1)
TREES = ("seq", "gather", "group", "race", "timeout", "try", "shield")
TREE_WEIGHTS = (6, 5, 2, 1, 3, 4, 1)


class Writer:
    """Writes programs by chance, of a bounded size."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self._ids = 0
        self._left = 0
        self._depth_of_runs = 0

    def programs(self) -> list[Scene]:
        """One run: one program for each generation (``continue_as_new`` in between)."""
        generations = self._chance.choice((1, 1, 1, 1, 2, 3))
        return [self._program(self._chance.randint(2, 7)) for _ in range(generations)]

    def _program(self, size: int) -> Scene:
        self._left = size
        scenes = [self._scene(0)]
        while self._left > 0:
            scenes.append(self._scene(0))
        return self._new("seq", parts=scenes)

    def _scene(self, depth: int) -> Scene:
        chance = self._chance
        if self._left <= 1 or depth >= 3 or chance.random() < 0.45:
            return self._leaf()
        op = chance.choices(TREES, TREE_WEIGHTS)[0]
        if op in ("seq", "gather", "group", "race"):
            return self._new(op, parts=[self._scene(depth + 1) for _ in range(chance.randint(2, 4))])
        limit = {"s": round(chance.uniform(0.2, 12.0), 2)} if op == "timeout" else {}
        return self._new(op, part=self._scene(depth + 1), **limit)

    def _leaf(self) -> Scene:
        chance = self._chance
        self._left -= 1
        op = chance.choices(LEAVES, LEAF_WEIGHTS)[0]
        if op in ("child", "courier", "collect") and self._depth_of_runs:
            op = "step"  # nobody writes to a child, and families are small
        match op:
            case "step":
                return self._new(chance.choices(STEPS, STEP_WEIGHTS)[0])
            case "sleep":
                return self._new(op, s=round(chance.choice((0.0, 0.3, 3.0, 12.0)) * chance.random(), 2))
            case "collect":
                return self._new(op, n=chance.randint(1, 4))
            case "courier":
                return self._new(op, n=chance.randint(1, 4))
            case "child":
                self._depth_of_runs += 1
                left, self._left = self._left, 0
                part = self._program(chance.randint(1, 4))
                self._left = left
                self._depth_of_runs -= 1
                return self._new(op, part=part, detached=chance.random() < 0.3)
            case "doomed":
                return self._new(op, declared=chance.random() < 0.5)
            case _:
                return self._new(op)

    def _new(self, op: str, **more: Any) -> Scene:
        self._ids += 1
        return {"op": op, "id": self._ids, **more}


def scenes(scene: Scene, *, into_children: bool = False) -> Iterator[Scene]:
    """A scene and all inside of it, outermost first."""
    yield scene
    if scene["op"] == "child" and not into_children:
        return
    for part in (*scene.get("parts", ()), *([scene["part"]] if "part" in scene else [])):
        yield from scenes(part, into_children=into_children)
