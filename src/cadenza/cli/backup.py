"""``cadenza backup``: a copy of the store, while workers go on."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from cadenza.cli.place import JsonOption, StoreOption, existing
from cadenza.cli.streams import print_json, say

SAY_S = 0.2


def backup(
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="The copy's path; nothing is overwritten.")],
    store: StoreOption = "cadenza.db",
    as_json: JsonOption = False,
) -> None:
    """Copy the store as it is now, while workers go on, and check the copy. To restore, use the copy as a store."""
    from cadenza.engine.sqlite.backup import back_up  # lazy: apsw is not needed for --help

    source = existing(store)
    done = back_up(source, target.expanduser(), _progress() if sys.stderr.isatty() else None)
    if as_json:
        print_json(msgspec.structs.asdict(done))
    else:
        say(f"Copied {done.runs:,} runs, {done.events:,} events, {done.bytes:,} bytes to {done.path}: sound.", "green")


def _progress() -> Callable[[int, int], None]:
    """Draws one line, over and over."""
    last_s = time.monotonic()

    def show(copied: int, pages: int) -> None:
        nonlocal last_s
        now_s = time.monotonic()
        if copied == pages:
            sys.stderr.write("\r\x1b[K")
        elif now_s - last_s >= SAY_S:
            last_s = now_s
            sys.stderr.write(f"\r{copied / pages:4.0%} of {pages:,} pages")
            sys.stderr.flush()

    return show
