"""``cadenza init``: a project that runs."""

from __future__ import annotations

import re
import shlex
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from cadenza.cli.streams import say, show
from cadenza.errors import UsageError

FILES = {
    "workflows.py": "workflows.py.txt",
    "test_workflows.py": "test_workflows.py.txt",
    "ticket.json": "ticket.json",
    "README.md": "README.md.txt",
    "pyproject.toml": "pyproject.toml.txt",
    ".gitignore": "gitignore.txt",
}
TEMPLATES = ("README.md", "pyproject.toml")


def init(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="Where; it is made if need be.", show_default="this folder"),
    ] = Path(),
) -> None:
    """Make a project that runs: agents, a workflow with a question to a person, a test. Nothing is overwritten."""
    if folder.is_file():
        raise UsageError(f"{folder} is a file; name a folder")
    taken = [name for name in FILES if (folder / name).exists()]
    if taken:
        shown = ", ".join(str(folder / name) for name in taken)
        raise UsageError(f"{shown} would be overwritten. Nothing was written; name another folder.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, template in FILES.items():
            text = files("cadenza.cli").joinpath("assets", "project", template).read_text(encoding="utf-8")
            if name in TEMPLATES:
                text = Template(text).substitute(name=_project_name(folder))
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{error.filename or folder} cannot be written: {error.strerror or error}") from None
    say(f"Made {', '.join(FILES)} in {folder.resolve()}.", "green")
    say("Now:")
    if folder.resolve() != Path.cwd():
        show(f"  cd {shlex.quote(str(folder))}")
    show("  cadenza run workflows.py:triage @ticket.json")


def _project_name(folder: Path) -> str:
    """The folder's name, as a project may be called."""
    name = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-")
    return name if name not in ("", "cadenza") else "my-agents"
