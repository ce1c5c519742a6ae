"""``cadenza dev``: run a workflow, and again whenever its project is saved.

A run that has not ended goes on with the new code; if the edit has changed what it did already, a new one is started.
Each turn is a process of its own, so nothing of the old code stays.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import typer

from cadenza.cli import exit_codes
from cadenza.cli.place import StoreOption
from cadenza.cli.run import InputArgument, TargetArgument
from cadenza.cli.streams import say
from cadenza.errors import UsageError

LOOK_S = 0.3
PARK_S = 12.0
FILES_MAX = 10_000
WATCHED = {".py", ".yaml", ".yml", ".toml"}
IGNORED = {"__pycache__", "node_modules", "site-packages"}
State = dict[str, tuple[int, int]]
CHANGED = -1
"""In the place of an exit code: the project was saved first."""


def dev(
    target: TargetArgument,
    input: InputArgument = None,
    *,
    store: StoreOption = "cadenza.db",
) -> None:
    """Run a workflow, and again at every save: what has not ended goes on with the new code. Ctrl-C ends it.

    \b
    cadenza dev workflows.py:triage @ticket.json
    """
    if store == ":memory:":
        raise UsageError("a store in memory ends with its process, and each save starts another. Name a file.")
    if input == "-":
        raise UsageError("the input is read at every start: give it as JSON or as @file.json, not on standard input.")
    project = Project(target, input)
    say(f"Watching {', '.join(map(str, project.folders))} for changes; Ctrl-C ends it.", "dim")
    try:
        _serve(project, target, input, store)
    except KeyboardInterrupt:
        raise typer.Exit(exit_codes.INTERRUPTED) from None


class Project:
    """The files whose change matters: code and definitions below the target's folder and this one, and the input."""

    def __init__(self, target: str, input: str | None) -> None:
        file = Path(target.rpartition(":")[0] if ":" in target else target).expanduser()
        folders = [Path.cwd(), *([file.resolve().parent] if file.suffix == ".py" else [])]
        self.folders = [each for each in dict.fromkeys(folders) if not any(up in folders for up in each.parents)]
        self._input = Path(input[1:]) if input and input.startswith("@") else None

    def state(self) -> State:
        """When each file was written, and its size."""
        found: State = {}
        for path in self._files():
            try:
                status = path.stat()
            except OSError:  # it is being replaced
                continue
            found[str(path)] = status.st_mtime_ns, status.st_size
            if len(found) >= FILES_MAX:
                break
        return found

    def _files(self) -> Iterator[Path]:
        if self._input is not None:
            yield self._input
        for folder in self.folders:
            for here, folders, names in os.walk(folder):
                folders[:] = [each for each in folders if not each.startswith(".") and each not in IGNORED]
                yield from (Path(here, name) for name in names if Path(name).suffix in WATCHED)


def _serve(project: Project, target: str, input: str | None, store: str) -> None:
    """Turn after turn, until the person has had enough."""
    number, went_on = 1, False
    while True:
        id = f"dev-{os.getpid()}-{number}"
        before = project.state()
        given = [input] if input is not None else []
        command = ["run", target, *given, "--id", id, "--on-conflict", "join", "--store", store]
        code = _turn(command, project, before)
        if code == exit_codes.BLOCKED and went_on:
            say(f"The edit changes what {id} has done. It stays blocked; a new run begins.", "yellow")
            number, went_on = number + 1, False
            continue
        if code in (exit_codes.OK, exit_codes.FAILED):
            number, went_on = number + 1, False
        elif code != exit_codes.USAGE:  # which has started nothing
            went_on = True
        if code != CHANGED:
            say("Waiting for a change …", "dim")
            _wait_for_change(project, before)
        say("Saved: starting again.", "cyan")
        _say_who_would_block(target, store)


def _say_who_would_block(target: str, store: str) -> None:
    """Print what ``check-deploy`` says of the store's runs on the new code, if some of them would not go on with it."""
    file = target.rpartition(":")[0] if ":" in target else target
    command = [sys.executable, "-m", "cadenza", "check-deploy", file, "--store", store]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == exit_codes.BLOCKED:
        say(f"{done.stdout}{done.stderr}".rstrip(), "yellow")


def _turn(command: list[str], project: Project, before: State) -> int:
    """Run a command until it ends (its exit code), or the project is saved: then it is parked first."""
    child = subprocess.Popen([sys.executable, "-m", "cadenza", *command])
    try:
        while True:
            try:
                return child.wait(LOOK_S)
            except subprocess.TimeoutExpired:
                if project.state() != before:
                    _park(child)
                    return CHANGED if child.returncode not in (exit_codes.OK, exit_codes.FAILED) else child.returncode
    except KeyboardInterrupt:
        _park(child, tell=False)  # the terminal has told it
        raise


def _park(child: subprocess.Popen[bytes], *, tell: bool = True) -> None:
    """Let the steps in flight end; after a while, do not."""
    if tell:
        child.send_signal(signal.SIGTERM)
    try:
        child.wait(PARK_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _wait_for_change(project: Project, before: State) -> None:
    """Until something was saved, and nothing more for a moment."""
    last = before
    while (now := project.state()) == before or now != last:
        last = now
        time.sleep(LOOK_S)
