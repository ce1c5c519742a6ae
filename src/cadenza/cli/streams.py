"""Where output goes: results to stdout, everything else to stderr. Text from outside is never read as markup."""

from __future__ import annotations

import json
import os
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

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


def say(text: str = "", style: str = "") -> None:
    """One remark on stderr; long lines are left to the terminal."""
    err().print(text, style=style or None, soft_wrap=True)


def print_json(value: Any) -> None:
    """``value`` on stdout as JSON, readable and exact."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def is_interactive() -> bool:
    """Whether somebody can be asked: a terminal to read from, and one that shows the question."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()  # pyright: ignore[reportUnnecessaryComparison]  # it is None where it was closed
