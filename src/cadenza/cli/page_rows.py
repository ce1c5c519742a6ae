"""The rows of a run's page: for each branch, step and child run a line with its bar, and what is behind it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from cadenza.cli.axis import Axis
from cadenza.cli.board import seconds
from cadenza.cli.calls import calls_of
from cadenza.cli.failures import failure_text
from cadenza.cli.history import History, Item
from cadenza.cli.history_tree import Node, tree_of
from cadenza.cli.tree_view import MARKS, remark_of

ROWS_MAX = 20_000
BYTES_MAX = 8_000_000
VALUE_MAX = 20_000
VALUE_MIN = 300


class Rows:
    """Makes the rows; ``left_out`` says how many there was no room for."""

    def __init__(self, history: History, axis: Axis, safe: Callable[[object], str]) -> None:
        self._history, self._axis, self._safe = history, axis, safe
        self._value_max = max(VALUE_MIN, min(VALUE_MAX, BYTES_MAX // max(1, history.count())))
        self._made = 0
        self.left_out = 0

    def html(self) -> str:
        return "\n".join(self._nodes(tree_of(self._history), 0))

    def _nodes(self, nodes: list[Node], depth: int) -> Iterator[str]:
        for node in nodes:
            if self._made >= ROWS_MAX:
                self.left_out += 1
                continue
            self._made += 1
            prefix = ""
            while node.item is None and len(node.below) == 1:
                prefix, node = f"{prefix}{node.name}/", node.below[0]
            if node.item is None:
                yield self._branch(node, prefix, depth)
            else:
                yield self._entry(node, node.item, prefix, depth)

    def _branch(self, node: Node, prefix: str, depth: int) -> str:
        took = seconds(node.ended - node.began) if node.began and node.ended else ""
        track = self._bar("k-branch", node.began, node.ended, node.name)
        path = self._path(prefix, node.name)
        name = f'<span class="name">{path}<span class="remark">{len(node.below)} inside</span></span>'
        return (
            f'<details class="node branch" open data-path="{self._safe(prefix + node.name)}" data-state="">'
            f'<summary class="line" style="--d:{depth}">{name}<span class="track">{track}</span>'
            f'<span class="took">{took}</span></summary>\n'
            + "\n".join(self._nodes(node.below, depth + 1))
            + "</details>"
        )

    def _entry(self, node: Node, item: Item, prefix: str, depth: int) -> str:
        safe = self._safe
        mark = MARKS[item.state][0]
        trouble = item.state != "completed" or item.attempts > 1
        remark = remark_of(item)
        bad = " bad" if item.failure is not None else ""
        name = (
            f'<span class="name"><span class="mark s-{item.state}" role="img" aria-label="{item.state}">{mark}</span>'
            f"{self._path(prefix, item.leaf)}"
            + (f'<span class="remark{bad}">{safe(remark)}</span>' if remark else "")
            + "</span>"
        )
        bars = self._bar(f"s-{item.state} k-{safe(item.kind)}", item.began, item.ended, item.path)
        bars += "".join(f'<span class="try" style="left:{self._percent(each.at)}"></span>' for each in item.tries[:50])
        took = seconds(item.took) if item.ended and item.began else ""
        child, inside = "", self._inside(item, depth)
        if node.run is not None:
            child = " child"
            inside = f'<details class="about" style="--d:{depth}"><summary>input and output</summary>{inside}</details>'
        below = "\n".join(self._nodes(node.below, depth + 1))
        return (
            f'<details class="node{child}"{" open" if child else ""} data-path="{safe(item.path)}" '
            f'data-state="{item.state}" data-trouble="{int(trouble)}">'
            f'<summary class="line" style="--d:{depth}">{name}<span class="track">{bars}</span>'
            f'<span class="took">{took}</span></summary>{inside}{below}</details>'
        )

    def _path(self, prefix: str, leaf: str) -> str:
        above = f'<span class="up">{self._safe(prefix)}</span>' if prefix else ""
        return f'<span class="path" title="{self._safe(prefix + leaf)}">{above}{self._safe(leaf)}</span>'

    def _bar(self, kind: str, began: int, ended: int, title: str) -> str:
        if not began or not (ended or self._history.last_at):
            return ""
        left, right = self._axis.place(began), self._axis.place(ended or self._history.last_at)
        shown = f"{_clock(began)}, {seconds(ended - began)}" if ended else f"since {_clock(began)}"
        return (
            f'<span class="bar {kind}" style="left:{100 * left:.3f}%;width:{100 * (right - left):.3f}%" '
            f'title="{self._safe(title)}: {shown}"></span>'
        )

    def _percent(self, at: int) -> str:
        return f"{100 * self._axis.place(at):.3f}%"

    # --- behind the click -------------------------------------------------------------------------------------------

    def _inside(self, item: Item, depth: int) -> str:
        parts = [f'<div class="inside" style="--d:{depth}"><dl>']
        parts += [f"<dt>{name}</dt><dd>{self._safe(value)}</dd>" for name, value in _facts(item) if value]
        parts.append("</dl>")
        if item.failure is not None:
            parts.append(f"<h3>failure</h3><pre>{self._safe(failure_text(item.failure))}</pre>")
        for each in item.tries:
            text = self._safe(failure_text(each.failure))[: self._value_max]
            parts.append(f"<h3>attempt {each.attempt} failed</h3><pre>{text}</pre>")
        parts += [f"<h3>{name}</h3><pre>{self._value(raw)}</pre>" for name, raw in _values(item)]
        parts += [
            f"<h3>{self._safe(call.name)} ({self._safe(each.effect)})</h3><pre>{self._value(each.value)}</pre>"
            for call, each in zip(calls_of(item.memos), item.memos, strict=True)
        ]
        parts.append("</div>")
        return "".join(parts)

    def _value(self, raw: bytes) -> str:
        return value_text(raw, self._value_max, self._safe)


def value_text(raw: bytes, length_max: int, safe: Callable[[object], str]) -> str:
    """JSON bytes, laid out, escaped, and cut with a word about it."""
    try:
        value: Any = json.loads(raw)
        text = value if isinstance(value, str) and "\n" in value else json.dumps(value, indent=2, ensure_ascii=False)
    except ValueError:
        text = raw.decode(errors="replace")
    if len(text) > length_max:
        return f"{safe(text[:length_max])}\n… {len(text) - length_max:,} characters more: cadenza show --json has them"
    return safe(text)


def _facts(item: Item) -> list[tuple[str, str]]:
    return [
        ("path", item.path),
        ("name", item.name if item.name != item.leaf.rpartition("#")[0] else ""),
        ("state", item.state),
        ("began", _clock(item.began) if item.began else ""),
        ("attempts", str(item.attempts) if item.attempts > 1 else ""),
        ("child run", item.child),
        ("input hash", item.input_hash),
        ("done by", item.done_by),
        ("notes", "; ".join(item.notes)),
    ]


def _values(item: Item) -> list[tuple[str, bytes]]:
    names = {"ask": ("question", "answer")}.get(item.kind, ("input", "output"))
    return [(name, raw) for name, raw in zip(names, (item.input, item.value), strict=True) if raw]


def _clock(microseconds: int) -> str:
    moment = time.localtime(microseconds / 1e6)
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', moment)}.{microseconds // 1_000 % 1_000:03}"
