"""``cadenza agents train``: learn from what people said which skill a request asks for."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from cadenza.cli.agents import CodeOption, load_code
from cadenza.cli.place import JsonOption, StoreOption, existing, reading
from cadenza.cli.streams import print_json, say, show
from cadenza.errors import UsageError

SHOWN_MAX = 30


def train(
    *,
    examples: Annotated[
        list[Path] | None,
        typer.Option(
            "--examples",
            metavar="FILE.jsonl",
            help='Lines of {"text": …, "skill": …}; no skill: none fits. Repeatable.',
        ),
    ] = None,
    code: CodeOption = "",
    store: StoreOption = "cadenza.db",
    as_json: JsonOption = False,
) -> None:
    """Train the classifier of skills on past corrections, and on labelled examples.

    A correction is a person's answer to "What is wanted?" that names a skill, or an agent with one skill. The model is
    kept beside the store, and takes part in choices of processes that call use_classifier().
    """
    from cadenza.routing.registry import registry
    from cadenza.routing.skill_training import Trained, corrections, examples_of
    from cadenza.routing.skill_training import train as trained

    load_code(code)
    given = [each for path in examples or () for each in examples_of(path)]

    async def main() -> tuple[int, Trained]:
        async with reading(store) as engine:
            corrected = corrections(engine, registry.instances(engine.catalogue))
            if not corrected and not given:
                raise UsageError(
                    "there is nothing to learn from: no person has corrected a choice in this store. "
                    "Give labelled examples: --examples FILE.jsonl"
                )
            told.update(each.skill for each in [*corrected, *given])
            return len(corrected), trained(engine.catalogue, existing(store), [*corrected, *given])

    told: Counter[str] = Counter()
    count, made = asyncio.run(main())
    if as_json:
        print_json({"folder": str(made.folder), "sha256": made.sha256, "corrections": count, **made.metrics})
        return
    for skill, times in told.most_common(SHOWN_MAX):
        show(f"{times:>7}  {skill or '(no skill fits)'}")
    if len(told) > SHOWN_MAX:
        say(f"{len(told) - SHOWN_MAX} more skills", "dim")
    say(f"{made.metrics['accuracy']:.1%} right on a fifth that was held out (split {made.metrics['split']})")
    say(f"Trained on {made.metrics['examples']} examples, {count} of them corrections: {made.folder}")
