"""``cadenza show``: one run, as a tree, a timeline, events, JSON, or one page to open in a browser."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cadenza.agents.usage import total
from cadenza.cli.board import seconds
from cadenza.cli.completion import RunArgument
from cadenza.cli.place import JsonOption, StoreOption, reading, store_flag
from cadenza.cli.questions import Question, how_to_answer, open_questions
from cadenza.cli.streams import clean, out, print_json, say
from cadenza.cli.workers import living
from cadenza.durable.events import Forked
from cadenza.errors import UsageError
from cadenza.routing.degraded import degraded_in

if TYPE_CHECKING:
    from cadenza.cli.history import History


def show(
    run_id: RunArgument,
    *,
    timeline: Annotated[bool, typer.Option("--timeline", help="A bar for each step.")] = False,
    events: Annotated[bool, typer.Option("--events", help="The journal, one event a line.")] = False,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write one self-contained page.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Sum up nothing, however long it is.")] = False,
    store: StoreOption = "cadenza.db",
    as_json: JsonOption = False,
) -> None:
    """Show one run: the tree of its steps, its result, and what it waits for."""
    from cadenza.cli.history import read_history

    async def main() -> tuple[History, list[Question], set[str]]:
        async with reading(store) as engine:
            history = read_history(engine, engine.find(run_id))
            questions = open_questions(engine, history.row.run_id)
            return history, questions, {each.owner for each in living(engine)}

    history, questions, alive = asyncio.run(main())
    if html is not None:
        _write_page(history, questions, alive, html, store)
    elif events:
        _print_events(history, as_json)
    elif as_json:
        from cadenza.cli.history_json import history_json

        print_json(history_json(history, questions, alive))
    else:
        _print_head(history, alive)
        _print_body(history, timeline, everything)
        _print_end(history, questions, store)


def _print_head(history: History, alive: set[str]) -> None:
    from rich.text import Text

    from cadenza.cli.runs import STYLES, status_of

    row = history.row
    status = status_of(row, alive)
    head = Text.assemble(
        (row.workflow.rpartition(":")[2], "bold"), f"  {row.run_id}  ", (status, STYLES.get(status, ""))
    )
    console = out()
    console.print(head, soft_wrap=True)
    for label, value in facts(history, alive):
        console.print(Text.assemble((f"  {label:<12}", "dim"), clean(value)), no_wrap=True, overflow="ellipsis")
    console.print()


def facts(history: History, alive: set[str]) -> list[tuple[str, str]]:
    """What is known of the run as a whole: labels and values."""
    row = history.row
    ended = row.ended_at or (row.ended and history.last_at) or 0
    took = seconds((ended or time.time_ns() // 1_000) - row.created_at)
    found = [("workflow", row.workflow), ("began", f"{clock(row.created_at)}, {'took' if ended else 'for'} {took}")]
    if row.business_id:
        found.append(("id", row.business_id))
    if row.parent:
        found.append(("parent", f"{row.parent} at {row.parent_path}"))
    forked = next((each for each in reversed(history.events) if isinstance(each, Forked)), None)
    if forked is not None:
        edited = f", with other outputs of {', '.join(forked.edited)}" if forked.edited else ""
        found.append(("forked from", f"{forked.origin} before {forked.before or 'its end'} ({forked.how}){edited}"))
    if row.generation:
        found.append(("generation", f"{row.generation} (continued as new {row.generation} times)"))
    if row.priority:
        found.append(("priority", str(row.priority)))
    if row.status == "running":
        gone = "" if row.owner in alive else "; its process is gone: the next worker takes the run up"
        found.append(("worker", row.owner + gone))
    if row.status == "waiting" and row.wake_at:
        timers = [each for each in history.generations[-1].waiting if "@timer" in each] if history.generations else []
        first = ", for the first of " if len(timers) > 1 else ", for "
        found.append(("wakes", clock(row.wake_at) + (first + ", ".join(timers[:5]) if timers else "")))
    if attributes := history.attributes():
        found.append(("attributes", ", ".join(f"{name}={json.dumps(value)}" for name, value in attributes.items())))
    entries = counted(history.count(), "entry", "entries")
    found.append(("journal", f"{counted(len(history.events), 'event')}, {entries}"))
    found += [("degraded", str(each)) for each in degraded_in(history.events)]
    if used := history.used():
        before = f"; {counted(history.copied(), 'request')} of these by the run before" if history.copied() else ""
        found.append(("models", str(total(used)) + before))
        found += [("", f"{each.agent}: {each} ({', '.join(each.models)})") for each in used]
    return found


def counted(count: int, one: str, many: str = "") -> str:
    """A number and its noun."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def clock(microseconds: int) -> str:
    """A moment in local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(microseconds / 1e6))


def _print_body(history: History, timeline: bool, everything: bool) -> None:
    from cadenza.cli.tree_view import timeline_lines, tree_lines

    console = out()
    if timeline:
        lines = timeline_lines(history, console.width, everything=everything)
    else:
        lines = tree_lines(history, everything=everything)
    for line in lines:
        console.print(line, no_wrap=True, overflow="ellipsis")
    console.print()


def _print_end(history: History, questions: list[Question], store: str) -> None:
    from cadenza.cli.failures import failure_text, raised_in_step

    console, row = out(), history.row
    if history.result and history.result != b"null":
        console.print("result", style="bold")
        console.print(json.dumps(json.loads(history.result), indent=2, ensure_ascii=False), soft_wrap=True)
    if history.failure is not None:
        console.print("failure", style="bold red")
        console.print(failure_text(history.failure), soft_wrap=True)
        if (inner := raised_in_step(history.events, history.failure)) is not None:
            console.print(f"in {inner.path}: {failure_text(inner.failure)}", soft_wrap=True)
    if history.reason:
        console.print(clean(f"reason: {history.reason}"), soft_wrap=True)
    if row.status == "blocked":
        console.print("blocked", style="bold red")
        console.print(clean(row.detail), soft_wrap=True)
        say(f"After the fix: cadenza resume {row.root}{store_flag(store)}")
    for question in questions[:10]:
        say(f"? {question.task.title}", "magenta")
        say(f"  {how_to_answer(question, store, only=len(questions) == 1)}")


# --- events -----------------------------------------------------------------------------------------------------------


def _print_events(history: History, as_json: bool) -> None:
    """Each event in its order, as JSON lines for scripts or as text for people."""
    from rich.text import Text

    first = history.began
    for seq, event in enumerate(history.events, 1):
        fields = event_fields(event)
        if as_json:
            print(json.dumps({"seq": seq, **fields}, ensure_ascii=False, default=str))
            continue
        kind, at = fields.pop("type"), fields.pop("at")
        path = fields.pop("path", "")
        rest = "  ".join(f"{name}={_short(value)}" for name, value in fields.items())
        line = Text.assemble(
            (f"{seq:>6} {(at - first) / 1e6:>10.3f} s ", "dim"), (f"{kind:<17}", "cyan"), f" {path}  ", (rest, "dim")
        )
        out().print(line, no_wrap=True, overflow="ellipsis")


def event_fields(event: Any) -> dict[str, Any]:
    """An event as plain data; JSON bytes are read."""
    import msgspec

    def plain(value: Any) -> Any:
        if isinstance(value, bytes):
            try:
                return json.loads(value) if value else None
            except ValueError:
                return value.decode(errors="replace")
        if isinstance(value, msgspec.Struct):
            return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
        if isinstance(value, tuple):
            items: tuple[Any, ...] = value  # pyright: ignore[reportUnknownVariableType]
            return [plain(item) for item in items]
        return value

    fields = {name: plain(getattr(event, name)) for name in event.__struct_fields__}
    return {"type": event.__struct_config__.tag, **fields}


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = clean(" ".join(text.split()))
    return text if len(text) <= 80 else f"{text[:79]}…"


# --- the page ---------------------------------------------------------------------------------------------------------


def _write_page(history: History, questions: list[Question], alive: set[str], file: Path, store: str) -> None:
    from cadenza.cli.page import page
    from cadenza.cli.runs import status_of

    text = page(history, questions, facts(history, alive), status_of(history.row, alive), store)
    try:
        file.expanduser().write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror or error}") from None
    size_mb, entries = len(text.encode()) / 1e6, counted(history.count(), "entry", "entries")
    say(f"Wrote {file} ({size_mb:.1f} MB, {entries}). Open it in a browser.", "green")
