"""The tree of a run as text, and its timeline. Long runs of siblings that all went well are summed up."""

from __future__ import annotations

import json
from collections.abc import Iterator

from rich.text import Text

from cadenza.agents.usage import total
from cadenza.cli.axis import Axis, axis_of
from cadenza.cli.board import seconds
from cadenza.cli.calls import calls_of
from cadenza.cli.history import History, Item
from cadenza.cli.history_tree import Node, tree_of
from cadenza.cli.streams import clean

MARKS = {
    "completed": ("✓", "green"), "failed": ("✗", "red"), "cancelled": ("–", "dim"), "open": ("▸", "cyan"),
    "retrying": ("↻", "yellow"), "waiting": ("?", "magenta"), "doubt": ("?", "bold yellow"),
}  # fmt: skip
SIBLINGS_MAX = 30
SIBLINGS_SHOWN = 5
CALLS_MAX = 12
CALLS_SHOWN = 4
TIMELINE_MAX = 100
NAME_WIDTH_MAX = 36
TOOK_WIDTH = 10


def tree_lines(history: History, *, everything: bool) -> Iterator[Text]:
    """One line a step; ``everything`` sums up nothing."""
    yield from _lines(tree_of(history), "", everything)
    if history.cut:
        yield Text("  … there are more child runs than are shown", style="yellow")


def _lines(nodes: list[Node], indent: str, everything: bool) -> Iterator[Text]:
    shown, skipped = _chosen(nodes, everything)
    for index, node in enumerate(shown):
        last = index == len(shown) - 1 and not skipped
        guide, below = ("└ ", "  ") if last else ("├ ", "│ ")
        node, prefix = _unwrapped(node)
        yield _line(node, prefix, indent + guide)
        if node.item is not None and node.item.memos:
            yield from _call_lines(node.item, indent + below, everything)
        yield from _lines(node.below, indent + below, everything)
    if skipped:
        took = [each.ended - each.began for each in skipped if each.ended and each.began]
        span = f", {seconds(min(took))} to {seconds(max(took))}" if took else ""
        yield Text.assemble(
            (f"{indent}└ ", "dim"), ("✓ ", "green"), (f"{len(skipped):,} more that completed{span}", "dim")
        )


def _call_lines(item: Item, indent: str, everything: bool) -> Iterator[Text]:
    """A line for each request and tool call of a step; of many, the first and the last."""
    calls = list(calls_of(item.memos))
    skipped = 0 if everything or len(calls) <= CALLS_MAX else len(calls) - 2 * CALLS_SHOWN
    for index, call in enumerate(calls):
        if skipped and CALLS_SHOWN <= index < CALLS_SHOWN + skipped:
            if index == CALLS_SHOWN:
                yield Text(f"{indent}· … {skipped:,} more; --all shows every one", style="dim")
            continue
        name, detail = clean(call.name), clean(" ".join(call.detail.split()))
        yield Text.assemble((f"{indent}{'  ' * call.depth}· ", "dim"), name, (f"  {detail}", "dim"))


def _chosen(nodes: list[Node], everything: bool) -> tuple[list[Node], list[Node]]:
    """The nodes to show, in order, and those to sum up."""
    fine = [node for node in nodes if not node.troubled]
    if everything or len(fine) <= SIBLINGS_MAX:
        return nodes, []
    skipped = {id(node) for node in fine[SIBLINGS_SHOWN:]}
    return [node for node in nodes if id(node) not in skipped], fine[SIBLINGS_SHOWN:]


def _unwrapped(node: Node) -> tuple[Node, str]:
    """A branch with one node in it is shown on that node's line."""
    prefix = ""
    while node.item is None and len(node.below) == 1:
        prefix, node = f"{prefix}{node.name}/", node.below[0]
    return node, prefix


def _line(node: Node, prefix: str, indent: str) -> Text:
    item = node.item
    if item is None:
        line = Text.assemble((indent, "dim"), (prefix, "dim"), (node.name, "bold dim"))
        if node.ended and node.began:
            line.append(f"  {seconds(node.ended - node.began)}", style="dim")
        return line
    mark, style = MARKS[item.state]
    line = Text.assemble((indent, "dim"), (f"{mark} ", style), (prefix, "dim"), item.leaf)
    if item.state == "completed" and item.kind in ("step", "child", "ask") and item.began:
        line.append(f"  {seconds(item.took)}", style="dim")
    if item.attempts > 1:
        line.append(f"  {item.attempts} attempts", style="yellow")
    if item.child:
        line.append(f"  run {item.child}", style="dim")
    remark = remark_of(item)
    if remark:
        line.append(f"  {remark}", style="red" if item.failure is not None else "dim")
    return line


def remark_of(item: Item) -> str:
    """What is most worth knowing of an item, in one line."""
    return clean(" ".join(_remark(item).split()))


def _remark(item: Item) -> str:
    if item.failure is not None:
        return str(item.failure)
    if item.kind == "ask":
        return _ask_remark(item)
    if item.kind == "update" and item.state == "completed":
        return f"answered: {item.value.decode(errors='replace')}" if item.value else "answered"
    if item.state == "retrying" and item.tries:
        return f"will be retried: {item.tries[-1].failure}"
    if item.notes:
        return item.notes[-1]
    if used := item.used():
        return str(total(used))
    return {"receive": "waits for a message", "timer": "waits"}.get(item.kind, "") if item.state == "waiting" else ""


def _ask_remark(item: Item) -> str:
    """A question, and its answer if there is one."""
    title = str(json.loads(item.input).get("title", "")) if item.input else ""
    if not item.value:
        return title
    given = json.loads(item.value)
    said = {True: "approved", False: "rejected"}.get(given.get("approved"), given.get("choice") or "answered")
    said += ", with changes" if given.get("approved") and given.get("value") is not None else ""
    by = f" by {given['by']}" if given.get("by") else ""
    comment = f" ({given['comment']})" if given.get("comment") else ""
    return f"{title}  {said}{by}{comment}"


# --- the timeline -----------------------------------------------------------------------------------------------------


def timeline_lines(history: History, width: int, *, everything: bool) -> Iterator[Text]:
    """A bar for each entry, from its beginning to its end; the longest ones if there are too many."""
    rows = list(timed(history))
    if not rows:
        yield Text("Nothing has ended yet.", style="dim")
        return
    count = len(rows)
    axis = axis_of(history, [item for _, item in rows])
    if not everything and count > TIMELINE_MAX:
        longest = sorted(rows, key=lambda row: row[1].took, reverse=True)[:TIMELINE_MAX]
        kept = {id(item) for _, item in longest}
        rows = [row for row in rows if id(row[1]) in kept]
    rows.sort(key=lambda row: row[1].began)
    names = max(len(_label(run, item)) for run, item in rows)
    chart = _Chart(axis, min(NAME_WIDTH_MAX, names, max(12, width // 3)), width)
    yield chart.head()
    yield from (chart.bar(_label(run, item), item) for run, item in rows)
    if count > len(rows):
        yield Text(f"… the {len(rows)} longest of {count:,}; --all shows every one", style="dim")
    if axis.gaps:
        total = seconds(sum(gap.microseconds for gap in axis.gaps))
        yield Text(f"┊ stands for time in which nothing worked: {total} in all", style="dim")


def timed(history: History) -> Iterator[tuple[str, Item]]:
    """What has a beginning and an end, in a run and its children, with the child's id (empty for the run itself)."""
    for item in history.items():
        if item.ended and item.began:
            yield history.row.run_id.partition(".")[2], item
    for child in history.children.values():
        yield from timed(child)


def _label(run: str, item: Item) -> str:
    return f"{run}:{item.path}" if run else item.path


class _Chart:
    """Names, bars and durations in columns."""

    def __init__(self, axis: Axis, names: int, width: int) -> None:
        self._axis, self._names = axis, names
        self._bars = max(10, width - names - TOOK_WIDTH - 4)
        self._gaps = {self._column(gap.at + gap.width / 2) for gap in axis.gaps}

    def head(self) -> Text:
        total = seconds(self._axis.last - self._axis.first)
        return Text(f"{'':<{self._names}}  0{total:>{self._bars - 1}}", style="dim")

    def bar(self, label: str, item: Item) -> Text:
        left = self._column(self._axis.place(item.began))
        right = max(left + 1, self._column(self._axis.place(item.ended)) + (item.took > 0))
        cells = [" "] * self._bars
        cells[left:right] = ["█" if item.took else "│"] * (min(right, self._bars) - left)
        for column in self._gaps:
            cells[column] = "┊"
        shown = label if len(label) <= self._names else f"…{label[-(self._names - 1) :]}"
        line = Text(f"{shown:<{self._names}}  ")
        line.append("".join(cells), style=MARKS[item.state][1])
        line.append(f"  {seconds(item.took):>{TOOK_WIDTH}}", style="dim")
        return line

    def _column(self, place: float) -> int:
        return min(self._bars - 1, int(place * self._bars))
