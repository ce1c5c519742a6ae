"""Where output goes: results to stdout, everything else to stderr. Text from outside is never read as markup."""

from __future__ import annotations

import json
import os
import re
import sys
from functools import cache
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console

CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "magenta": "35", "cyan": "36"}
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
PIPE_COLUMNS = 160
"""Width of tables where there is no terminal and no COLUMNS."""


@cache
def out() -> Console:
    """Standard output, for results."""
    return _console(stderr=False)


@cache
def err() -> Console:
    """Standard error, for progress, hints and errors."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    from rich.console import Console  # lazy: 0.1 s that --help does not need

    stream = sys.stderr if stderr else sys.stdout
    plain = not stream.isatty() and "COLUMNS" not in os.environ
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, width=PIPE_COLUMNS if plain else None)


def clean(text: str) -> str:
    """``text`` without the characters by which it could command a terminal."""
    return CONTROL.sub("�", text)


def say(text: str = "", style: str = "") -> None:
    """One remark on stderr; long lines are left to the terminal."""
    text = clean(text)
    if "rich.console" in sys.modules:
        err().print(text, style=style or None, soft_wrap=True)  # goes above a picture that is being drawn
    else:
        sys.stderr.write(paint(text, style, sys.stderr) + "\n")
        sys.stderr.flush()


def show(text: str = "") -> None:
    """One line on stdout."""
    sys.stdout.write(text + "\n")


def paint(text: str, style: str, stream: TextIO | None = None) -> str:
    """``text`` in a style, where ``stream`` (stdout by default) is a terminal with colours."""
    text = clean(text)
    codes = ";".join(CODES[word] for word in style.split())
    if not codes or not (stream or sys.stdout).isatty() or "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{codes}m{text}\x1b[0m"


def print_json(value: Any) -> None:
    """``value`` on stdout as JSON, readable and exact."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def is_interactive() -> bool:
    """Whether somebody can be asked: a terminal to read from, and one that shows the question."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()  # pyright: ignore[reportUnnecessaryComparison]  # it is None where it was closed
