"""``cadenza show --html``: a run as one page that needs nothing else: tree, timeline, every value behind a click.

Everything from the journal is escaped; the page's policy forbids any script but its own and any request. It works
without JavaScript, which adds the filter, keys and the switch between light and dark.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from html import escape
from importlib.resources import files
from string import Template

from cadenza.cli.axis import Axis, axis_of
from cadenza.cli.board import seconds
from cadenza.cli.failures import failure_text, raised_in_step
from cadenza.cli.history import History
from cadenza.cli.page_rows import Rows, value_text
from cadenza.cli.questions import Question, how_to_answer
from cadenza.cli.tree_view import timed

VALUE_MAX = 50_000
OPEN_MAX = 600
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
WORDS = {
    "completed": "completed", "failed": "failed", "waiting": "waiting", "open": "begun", "retrying": "to be retried",
    "doubt": "in doubt", "cancelled": "cancelled",
}  # fmt: skip
TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


def safe(text: object) -> str:
    """Any text for use in HTML, in an element or a quoted attribute."""
    return escape(CONTROL.sub("�", str(text)), quote=True)


def page(history: History, questions: list[Question], facts: list[tuple[str, str]], status: str, store: str) -> str:
    """The whole page as text."""
    row = history.row
    label = row.workflow.rpartition(":")[2]
    script = _asset("page.js")
    axis = axis_of(history, [item for _, item in timed(history)])
    rows = Rows(history, axis, safe)
    values: dict[str, str] = {
        "title": safe(f"{label} {row.run_id}"),
        "script": script,
        "script_hash": "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "style": _asset("page.css"),
        "gap_bands": _bands(axis),
        "workflow": safe(label),
        "status": safe(status),
        "facts": _facts([("run", row.run_id), *facts]),
        "summary": _summary(history),
        "callouts": _callouts(history, questions, store),
        "ends": _ends(history),
        "ticks": _ticks(axis),
        "rows": rows.html() or '<p class="note">No step has ended yet.</p>',
        "notes": _notes(history, axis, rows.left_out),
        "footer": "Made by cadenza show. Everything on this page is in the run's journal.",
    }
    return Template(_asset("page.html")).substitute(values)


def _asset(name: str) -> str:
    return files("cadenza.cli").joinpath("assets", name).read_text(encoding="utf-8")


def _facts(facts: list[tuple[str, str]]) -> str:
    return "".join(f"<div><dt>{safe(name)}</dt><dd>{safe(value)}</dd></div>" for name, value in facts)


def _summary(history: History) -> str:
    """How many entries are in which state, in the run and its children."""
    counts: Counter[str] = Counter()
    todo = [history]
    while todo:
        each = todo.pop()
        counts.update(item.state for item in each.items())
        todo += each.children.values()
    parts = [
        f'<span><b class="s-{state}">{counts[state]:,}</b> {word}</span>'
        for state, word in WORDS.items()
        if counts[state]
    ]
    return "".join(parts) or "<span>Nothing has happened yet.</span>"


def _callouts(history: History, questions: list[Question], store: str) -> str:
    """What somebody must do or know: a failure, a block, questions."""
    found: list[str] = []
    row = history.row
    if history.failure is not None:
        text = failure_text(history.failure)
        if (inner := raised_in_step(history.events, history.failure)) is not None:
            text += f"\nin {inner.path}: {failure_text(inner.failure)}"
        found.append(_callout("failed", "Failed", f'<pre class="cause">{safe(text)}</pre>'))
    if row.status == "cancelled":
        found.append(_callout("cancelled", "Cancelled", f"<p>{safe(history.reason or 'no reason given')}</p>"))
    if row.status == "blocked":
        fix = f"<p>After the fix: <code>cadenza resume {safe(row.root)}</code></p>"
        found.append(_callout("blocked", "Blocked", f'<pre class="cause">{safe(row.detail)}</pre>{fix}'))
    if questions:
        only = len(questions) == 1
        body = "".join(
            f"<p>{safe(each.task.title)}<br><code>{safe(how_to_answer(each, store, only=only))}</code></p>"
            for each in questions[:20]
        )
        more = f"<p>and {len(questions) - 20} more</p>" if len(questions) > 20 else ""
        found.append(_callout("waiting", "Waits for a person", body + more))
    return "\n".join(found)


def _callout(state: str, title: str, body: str) -> str:
    return f'<section class="panel callout s-{state}"><h2>{title}</h2>{body}</section>'


def _ends(history: History) -> str:
    """Input and result."""
    parts = [("Input", history.input, len(history.input) <= OPEN_MAX), ("Result", history.result, True)]
    panels = [
        f'<details class="panel"{" open" if is_open else ""}><summary>{name}</summary><div class="body">'
        f"<pre>{value_text(raw, VALUE_MAX, safe)}</pre></div></details>"
        for name, raw, is_open in parts
        if raw and raw != b"null"
    ]
    return f'<div class="ends">{"".join(panels)}</div>' if panels else ""


def _ticks(axis: Axis) -> str:
    return "".join(f'<i style="left:{100 * place:g}%">{seconds(axis.time(place) - axis.first)}</i>' for place in TICKS)


def _bands(axis: Axis) -> str:
    """The shortened stretches, as stripes behind the bars."""
    stripes = [
        f"linear-gradient(90deg,transparent {100 * gap.at:.3f}%,var(--gap) {100 * gap.at:.3f}%,"
        f"var(--gap) {100 * (gap.at + gap.width):.3f}%,transparent {100 * (gap.at + gap.width):.3f}%)"
        for gap in axis.gaps
    ]
    return ",".join(stripes) or "none"


def _notes(history: History, axis: Axis, left_out: int) -> str:
    notes: list[str] = []
    if axis.gaps:
        total = seconds(sum(gap.microseconds for gap in axis.gaps))
        notes.append(f"Grey stripes are shortened time in which nothing worked: {total} in all.")
    if left_out:
        notes.append(f"{left_out:,} more entries are not shown; cadenza show --json has them.")
    if history.cut:
        notes.append("There are more child runs than are shown.")
    return "".join(f'<p class="note">{safe(note)}</p>' for note in notes)
