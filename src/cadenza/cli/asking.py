"""Asks a person at the terminal. What is shown goes to stderr; what is answered is checked before it is returned."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import json
import os
import shlex
import subprocess
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from cadenza.cli.questions import Question
from cadenza.cli.streams import clean, err
from cadenza.durable.human import RESOLUTIONS, Answer, HumanTask, check_answer
from cadenza.errors import InputInvalid

R = TypeVar("R")
LATER = ("", "l", "later")
YES, NO = ("y", "yes", "approve"), ("n", "no", "reject")


def user() -> str:
    """Who sits here."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name
        return f"uid {os.getuid()}"


def ask(question: Question) -> Answer | None:
    """Ask until there is an answer that fits; None: later."""
    show(question)
    while True:
        try:
            answer = _read(question.task)
        except EOFError:
            err().print()
            return None
        if answer is None:
            return None
        try:
            check_answer(question.task, answer)
        except InputInvalid as error:
            err().print("; ".join(problem for _, problem, _ in error.problems), style="yellow")
            continue
        return answer


def show(question: Question) -> None:
    """The question, and what a person needs to decide."""
    console, task = err(), question.task
    console.print()
    console.print(clean(f"? {task.title}"), style="bold magenta", soft_wrap=True)
    about = f"{task.kind}, run {question.run_id}, {question.path}" + (f", for {task.assignee}" if task.assignee else "")
    console.print(f"  {about}", style="dim", soft_wrap=True)
    for line in details_lines(task.details):
        console.print(f"  {line}", soft_wrap=True)
    for number, option in enumerate(task.options, 1):
        console.print(clean(f"  {number}  {option}"), soft_wrap=True)
    if task.kind == "edit":
        console.print("  Now:", style="dim")
        for line in json.dumps(task.value, indent=2, ensure_ascii=False).splitlines():
            console.print(f"  {line}", soft_wrap=True)


def details_lines(details: Any) -> list[str]:
    """A task's details: pairs one a line, everything else as text or JSON."""
    return [clean(line) for line in _details(details)]


def _details(details: Any) -> list[str]:
    if details is None:
        return []
    if isinstance(details, str):
        return details.splitlines()
    if isinstance(details, dict):
        pairs: dict[str, Any] = details  # pyright: ignore[reportUnknownVariableType]
        width = min(24, max((len(str(key)) for key in pairs), default=0))
        return [
            f"{key!s:<{width}}  {value if isinstance(value, str) else _json(value)}" for key, value in pairs.items()
        ]
    return json.dumps(details, indent=2, ensure_ascii=False).splitlines()


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _read(task: HumanTask) -> Answer | None:
    match task.kind:
        case "approve":
            return _read_approval(task)
        case "choose" | "resolve":
            return _read_choice(task)
        case "edit":
            return _read_edit(task)
        case "respond":
            text = _line("Your answer (text, or JSON that begins with { or [; Enter: later): ")
            return None if text in LATER else Answer(value=_text_or_json(text), by=user())


def _read_approval(task: HumanTask) -> Answer | None:
    change = "" if task.value is None else "[c]hange it, "
    while True:
        text = _line(f"Approve? [y]es, [n]o, {change}[l]ater: ").lower()
        if change and text in ("c", "change"):
            edited = _read_edit(task)
            return None if edited is None else Answer(approved=True, value=edited.value, by=user())
        if text in YES:
            return Answer(approved=True, by=user())
        if text in NO:
            return Answer(approved=False, comment=_line("Why not? (Enter: no comment) "), by=user())
        if text in LATER:
            return None


def _read_choice(task: HumanTask) -> Answer | None:
    options = task.options or RESOLUTIONS
    text = _line(f"Your choice (1 to {len(options)}, or its text; Enter: later): ")
    if text in LATER and text not in options:
        return None
    choice = (
        options[int(text) - 1] if text.isdecimal() and 1 <= int(text) <= len(options) and text not in options else text
    )
    value = None
    if task.kind == "resolve" and choice == "done":
        value = _read_json("The step's result as JSON (Enter: null): ", None)
    return Answer(choice=choice, value=value, by=user())


def _read_edit(task: HumanTask) -> Answer | None:
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    opens = ", e: open it in your editor" if editor else ""
    text = _line(f"[k]eep it as it is, [l]ater{opens}, or new JSON: ")
    if text.lower() in LATER:
        return None
    if text.lower() in ("k", "keep"):
        return Answer(value=task.value, by=user())
    if editor and text.lower() in ("e", "edit"):
        text = _edited(editor, json.dumps(task.value, indent=2, ensure_ascii=False))
    try:
        return Answer(value=json.loads(text), by=user())
    except json.JSONDecodeError as error:
        err().print(f"That is not JSON: {error}", style="yellow")
        return _read_edit(task)


def _edited(editor: str, text: str) -> str:
    """What the user makes of ``text`` in their editor."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "value.json"
        file.write_text(text + "\n", encoding="utf-8")
        subprocess.run([*shlex.split(editor), str(file)], check=False)
        return file.read_text(encoding="utf-8")


def _read_json(prompt: str, empty: Any) -> Any:
    while True:
        text = _line(prompt)
        if not text:
            return empty
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            err().print(f"That is not JSON: {error}", style="yellow")


def _text_or_json(text: str) -> Any:
    if text.startswith(("{", "[")):
        with contextlib.suppress(json.JSONDecodeError):
            return json.loads(text)
    return text


def _line(prompt: str) -> str:
    err().print(prompt, style="bold", end="")
    return input().strip()


async def unless(stop: asyncio.Task[None], work: Callable[[], R]) -> R | None:
    """What ``work`` returns, in a thread that may be left behind; None as soon as ``stop`` is done."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[R] = loop.create_future()

    def settle(result: list[R], error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result[0])
        else:
            future.set_exception(error)

    def serve() -> None:
        result: list[R] = []
        problem: BaseException | None = None
        try:
            result.append(work())
        except BaseException as error:
            problem = error
        with contextlib.suppress(RuntimeError):  # the loop is gone
            loop.call_soon_threadsafe(settle, result, problem)

    threading.Thread(target=serve, name="cadenza-prompt", daemon=True).start()
    await asyncio.wait({future, stop}, return_when=asyncio.FIRST_COMPLETED)
    return future.result() if future.done() else None
