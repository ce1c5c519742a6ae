"""``cadenza agents dead-letters``: calls that nobody could do, and to have them done again."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Annotated

import typer

from cadenza.cli.place import JsonOption, StoreOption, reading, store_flag
from cadenza.cli.show import clock
from cadenza.cli.streams import clean, out, print_json, say
from cadenza.routing.dead_letter import DeadLetter, Letter, dead_letters, letter_in, redo

dead_letters_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Calls that nobody could do.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@dead_letters_app.command("list", short_help="List them, with what was tried.")
def list_(
    *,
    all_: Annotated[bool, typer.Option("--all", help="Those that were done again, too.")] = False,
    store: StoreOption = "cadenza.db",
    as_json: JsonOption = False,
) -> None:
    """List the calls that every level of a fallback chain has failed at, oldest first."""

    async def main() -> list[tuple[DeadLetter, Letter]]:
        async with reading(store) as engine:
            return [(each, letter_in(engine, each)) for each in dead_letters(engine.catalogue, all=all_)]

    found = asyncio.run(main())
    if as_json:
        rows = [dataclasses.asdict(letter) | {"input": written.input} for letter, written in found]
        print_json([row | {"tried": written.tried} for row, (_, written) in zip(rows, found, strict=True)])
        return
    for letter, written in found:
        done = f"  done again by {letter.redone_by}" if letter.redone_by else ""
        out().print(f"{letter.id}  {letter.agent}  {clock(letter.at)}  run {letter.run_id}{done}", highlight=False)
        for who, why in written.tried:
            out().print(clean(f"  {who}  {why}"), no_wrap=True, overflow="ellipsis", highlight=False, style="dim")
    if not found:
        say("No dead letters.")


@dead_letters_app.command("redo", short_help="Have one of them done again.")
def redo_(
    id: Annotated[str, typer.Argument(metavar="ID", help="Of the letter, or its beginning.")],
    *,
    store: StoreOption = "cadenza.db",
) -> None:
    """Start a run that calls the agent with the same input again. A worker that knows the agent takes it up."""

    async def main() -> str:
        async with reading(store) as engine:
            return (await redo(engine, id)).run_id

    run_id = asyncio.run(main())
    say(f"Run {run_id} does it again, as soon as a worker takes it up: cadenza worker FILE{store_flag(store)}", "green")
