"""``cadenza explain``: why an agent was chosen, with the whole table; and who would be, with other weights."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cadenza.cli.completion import RunArgument
from cadenza.cli.place import JsonOption, StoreOption, reading
from cadenza.cli.streams import clean, out, print_json, say, show
from cadenza.errors import UsageError

if TYPE_CHECKING:
    from cadenza.routing.choice import Choice
    from cadenza.routing.explain import Explained

WIDTH_MIN = 60


def explain(
    run_id: RunArgument,
    step: Annotated[
        str, typer.Argument(metavar="STEP", help="The path of a choice, or of a call; all choices by default.")
    ] = "",
    *,
    what_if: Annotated[
        str, typer.Option("--what-if", metavar="WEIGHTS", help="Score again: price=2,performance=0.")
    ] = "",
    prefer: Annotated[
        str, typer.Option("--prefer", metavar="PRESET", help="Score again: quality, balanced, cheap or fast.")
    ] = "",
    store: StoreOption = "cadenza.db",
    as_json: JsonOption = False,
) -> None:
    """Show why an agent was chosen: who could be, each score, who was refused and why. Reads the journal only."""
    from cadenza.routing.explain import choices_in, levels_in, named, parse_weights

    async def main() -> tuple[list[Explained], list[tuple[str, str]]]:
        async with reading(store) as engine:
            journal = list(engine.journal(engine.find(run_id).run_id))
            return choices_in(journal), levels_in(journal)

    choices, levels = asyncio.run(main())
    if not step and not as_json:
        for path, said in levels:
            show(clean(f"{path}  {said}"))
    if not choices and levels:
        if as_json:
            print_json([])
        return
    if not choices:
        raise UsageError(f"run {run_id} has chosen no agent: each of its calls names one, which has one instance")
    weights = parse_weights(what_if)
    chosen = named(choices, step) if step else choices
    if as_json:
        print_json([_as_json(each, weights, prefer) for each in chosen])
    elif len(chosen) > 1 and not weights and not prefer:
        _print_list(chosen)
    else:
        for number, each in enumerate(chosen):
            if number:
                show()
            _print(each, weights, prefer)


def _print_list(choices: list[Explained]) -> None:
    from cadenza.routing.router import wanted

    wide = max(len(each.path) for each in choices)
    for each in choices:
        made = each.choice
        could = sum(not row.refused for row in made.rows)
        winner = made.winner or "nobody"
        instead = f", in place of {made.fallback_of}" if made.fallback_of else ""
        show(clean(f"{each.path:<{wide}}  {winner} (of {could}) for {wanted(made.need)}{instead}"))
    say("The table of one: cadenza explain RUN STEP")


def _print(each: Explained, weights: dict[str, float], prefer: str) -> None:
    from cadenza.routing.explain import lines_of, rescored, summary, verdict
    from cadenza.routing.router import wanted

    made = each.choice
    after = rescored(made, weights, prefer) if weights or prefer else made
    clock = time.strftime("%H:%M:%S", time.localtime(each.at / 1e6))
    show(clean(f"{each.path}  {clock}  {wanted(made.need)}"))
    sure = "" if made.confidence is None else f", confidence {made.confidence:.2f}"
    show(clean(f"  {made.strategy} ({summary(made.need)}{sure})"))
    if made.fallback_of:
        show(clean(f"  in place of {made.fallback_of}, whose call did not succeed"))
    if made.reason:
        show(clean(f"  {made.reason}"))
    show()
    width = max(WIDTH_MIN, out().width)
    for line in lines_of(after, width):
        show(clean(line))
    if weights or prefer:
        show()
        show(clean(f"  {verdict(made, after)}"))
        return
    if each.then:
        show()
    for line in each.then:
        text = f"  then {line}"
        show(clean(text if len(text) <= width else f"{text[: width - 1]}…"))


def _as_json(each: Explained, weights: dict[str, float], prefer: str) -> dict[str, Any]:
    from cadenza.routing.explain import rescored

    found: dict[str, Any] = {"path": each.path, "at": each.at, "then": list(each.then), **_plain(each.choice)}
    if weights or prefer:
        after = rescored(each.choice, weights, prefer)
        found["what_if"] = {"changes": after.winner != each.choice.winner, **_plain(after)}
    return found


def _plain(choice: Choice) -> dict[str, Any]:
    return dataclasses.asdict(choice)
