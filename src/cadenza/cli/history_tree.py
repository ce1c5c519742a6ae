"""A run's history as a tree: generations, branches, entries, and the trees of child runs below their calls."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from cadenza.cli.history import Generation, History, Item

NUMBERS = re.compile(r"(\d+)")


@dataclass(slots=True)
class Node:
    """A branch (``item`` is None), or an item, whose ``below`` are the nodes of its child run."""

    name: str
    item: Item | None
    began: int
    below: list[Node] = field(default_factory=list["Node"])
    run: History | None = None
    ended: int = 0
    troubled: bool = False


def tree_of(history: History) -> list[Node]:
    """The nodes of a run: its generations if there are several, else its branches and items, each level by time."""
    if len(history.generations) <= 1:
        return _nodes(history, history.generations[0]) if history.generations else []
    found: list[Node] = []
    for generation in history.generations:
        node = Node(f"generation {generation.number}", None, generation.began, _nodes(history, generation))
        node.ended = generation.ended
        node.troubled = any(each.troubled for each in node.below)
        found.append(node)
    return found


def _nodes(history: History, generation: Generation) -> list[Node]:
    root = Node("", None, generation.began)
    branches: dict[str, Node] = {"": root}
    for item in generation.items.values():
        node = Node(item.leaf, item, item.began, ended=item.ended, troubled=item.state not in ("completed",))
        if item.child in history.children:
            node.run = history.children[item.child]
            node.below = tree_of(node.run)
        _branch(branches, item.branch).below.append(node)
    _finish(root)
    return root.below


def _branch(branches: dict[str, Node], path: str) -> Node:
    found = branches.get(path)
    if found is None:
        found = branches[path] = Node(path.rpartition("/")[2], None, 0)
        _branch(branches, path.rpartition("/")[0]).below.append(found)
    return found


def _finish(node: Node) -> None:
    """Give branches their times, and sort each level."""
    for each in node.below:
        if each.item is None:
            _finish(each)
            each.began = min((one.began for one in each.below if one.began), default=0)
            each.ended = max((one.ended for one in each.below), default=0)
            each.troubled = any(one.troubled for one in each.below)
    node.below.sort(key=lambda each: (not each.began, each.began, path_order(each.name)))


def path_order(path: str) -> tuple[tuple[int, int | str], ...]:
    """Sorts ``b2`` before ``b10``."""
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in NUMBERS.split(path))
