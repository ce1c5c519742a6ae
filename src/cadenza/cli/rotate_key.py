"""``cadenza rotate-key``: everything in the store is encrypted with the first key."""

from __future__ import annotations

import sys
from typing import Annotated

import msgspec
import typer

from cadenza.cli import exit_codes
from cadenza.cli.place import JsonOption, StoreOption, existing
from cadenza.cli.streams import print_json, say
from cadenza.errors import UsageError


def rotate_key(
    compact: Annotated[
        bool, typer.Option(help="Rewrite the file at the end, so that no unused page holds old content.")
    ] = True,
    store: StoreOption = "cadenza.db",
    as_json: JsonOption = False,
) -> None:
    """Encrypt everything with $CADENZA_KEY, or with the first key of $CADENZA_KEYS, while workers go on."""
    from cadenza.engine.sqlite.rotation import rotate  # lazy: apsw is not needed for --help
    from cadenza.engine.sqlite.sealing import MAKE_ONE, KeyRing

    path = existing(store)
    keys = KeyRing.from_environment()
    if keys is None:
        raise UsageError(f"there is no key; set CADENZA_KEY, or CADENZA_KEYS with the new key first; {MAKE_ONE}")
    done = rotate(path, keys, _progress if sys.stderr.isatty() else None, compact=compact)
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
    if as_json:
        print_json(msgspec.structs.asdict(done))
    elif done.settled:
        say(f"Everything is encrypted with the key {done.key!r}: {done.values:,} values anew.", "green")
        for name in done.retired:
            say(f"The key {name!r} is needed no longer.")
    if not done.settled:
        say("A worker still writes with another key: start it anew with this one first, then repeat this.", "yellow")
        raise typer.Exit(exit_codes.FAILED)
    if compact and not done.compacted:
        say("Others read the log, which still holds old content: repeat this when no worker runs.", "yellow")


def _progress(what: str, count: int) -> None:
    sys.stderr.write(f"\r\x1b[K{count:,} {what}")
    sys.stderr.flush()
