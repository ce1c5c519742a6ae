"""``cadenza export`` and ``cadenza import``: one run as a file, out of a store and into another."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from cadenza.cli.completion import RunArgument
from cadenza.cli.place import MEMORY, JsonOption, StoreOption, existing, reading, store_flag
from cadenza.cli.streams import print_json, say
from cadenza.engine.archive import Imported
from cadenza.engine.engine import Engine
from cadenza.engine.options import EngineOptions
from cadenza.errors import UsageError

STREAM = "-"


def export(
    run: RunArgument,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Where to write; nothing is overwritten.")
    ] = STREAM,
    store: StoreOption = "cadenza.db",
) -> None:
    """Write a run and its child runs as lines of JSON, with everything in them in plain text."""

    async def main() -> Iterator[bytes]:
        async with reading(store) as engine:
            return engine.export(run)

    lines = asyncio.run(main())
    if output != STREAM:
        _write(Path(output).expanduser(), lines)
        return
    for line in lines:
        sys.stdout.buffer.write(line)


def _write(path: Path, lines: Iterable[bytes]) -> None:
    try:
        with path.open("xb") as file:
            try:
                file.writelines(lines)
            except BaseException:
                path.unlink()  # half an export is none
                raise
    except FileExistsError:
        raise UsageError(f"{path} is there already. Nothing was written; choose another name.") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}") from None
    say(f"Written to {path}.", "green")


def import_(
    file: Annotated[str, typer.Argument(metavar="FILE", help="What cadenza export wrote; - is standard input.")],
    take_over: Annotated[
        bool,
        typer.Option("--take-over", help="Runs that have not ended go on here, and nowhere else any more."),
    ] = False,
    store: StoreOption = "cadenza.db",
    as_json: JsonOption = False,
) -> None:
    """Take in an exported run with its child runs. The store is made if it is not there."""
    path = existing(store) if store == MEMORY else Path(store).expanduser()  # which refuses memory

    async def main() -> Imported:
        with _lines(file) as lines:
            async with Engine.open(path, EngineOptions(worker=False)) as engine:
                where = "standard input" if file == STREAM else file
                return await engine.import_(lines, where, take_over=take_over)

    done = asyncio.run(main())
    if as_json:
        print_json({"imported": done.new, "known": done.known})
    if done.new:
        others = len(done.new) - 1
        children = f" and {others} child run{'s' if others > 1 else ''}" if others else ""
        say(f"Imported {done.new[0]}{children}.", "green")
    if done.known:
        say(f"Here already, and the same: {', '.join(done.known[:5])}{' …' if len(done.known) > 5 else ''}")
    if done.new and not as_json:
        say(f"See it: cadenza show {done.new[0]}{store_flag(store)}")


@contextmanager
def _lines(file: str) -> Generator[Iterable[bytes]]:
    if file == STREAM:
        yield sys.stdin.buffer
        return
    path = Path(file).expanduser()
    try:
        with path.open("rb") as opened:
            yield opened
    except OSError as error:
        if error.filename != str(path):
            raise
        raise UsageError(f"{file} cannot be read: {error.strerror or error}") from None
