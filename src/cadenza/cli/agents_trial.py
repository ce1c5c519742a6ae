"""What ``cadenza agents test`` does: one call of one agent, as a run."""

from __future__ import annotations

import asyncio
import json
import shlex
from typing import Any

from cadenza.agents.usage import total
from cadenza.cli import exit_codes
from cadenza.cli.agents_view import in_words, key_of, price
from cadenza.cli.board import seconds
from cadenza.cli.failures import failure_text
from cadenza.cli.place import location, store_flag
from cadenza.cli.questions import open_questions
from cadenza.cli.report import show_questions
from cadenza.cli.streams import print_json, say
from cadenza.durable import events
from cadenza.engine.engine import Engine
from cadenza.engine.handle import RunHandle
from cadenza.errors import UsageError
from cadenza.routing.instance import Instance

LOOK_S = 0.05


def read_input(given: str | None, instance: Instance) -> Any:
    """The input that the command line gives: JSON, or mere text for an agent that takes text.

    Raises:
        UsageError: no input, or no JSON. InputInvalid: it does not fit.
    """
    from cadenza.cli.target import read_json
    from cadenza.durable import codec

    what = f"the input of {instance.card.name}"
    takes = _types(instance)[0]
    textual = (instance.card.input_schema or {}).get("type") == "string"
    if given is None:
        if takes is type(None):
            return None
        raise UsageError(f"{instance.card.name} needs an input: {in_words(instance.card.input_schema)}")
    if textual and not given.startswith(("@", '"')) and given != "-":
        value: Any = given
    else:
        value = read_json(given, what)
    codec.coerce(value, takes, what)
    return value


def _types(instance: Instance) -> tuple[Any, Any]:
    types: tuple[Any, Any] | None = getattr(instance.agent, "types", None)
    return types if types is not None else (Any, Any)


def call_once(instance: Instance, value: Any, store: str, code: str, *, as_json: bool) -> int:
    """Call it, and print what came of it; ``code`` is the file that defines it. Returns the exit code."""
    from cadenza.routing.trial import Trial, trial

    async def main() -> int:
        async with Engine.open(location(store)) as engine:
            handle = await engine.start(trial, Trial(instance.key, value))
            if not await _over(engine, handle):
                return _say_waiting(engine, handle.run_id, store, code)
            return _report(engine, instance, handle.run_id, store_flag(store), as_json=as_json)

    return asyncio.run(main())


async def _over(engine: Engine, handle: RunHandle[Any]) -> bool:
    """Whether it ends; False if it only waits, for a person or a message."""
    ended = asyncio.ensure_future(engine.ended(handle.run_id))
    try:
        while not (await asyncio.wait([ended], timeout=LOOK_S))[0]:
            row = engine.find(handle.run_id)
            if row.status == "waiting" and engine.is_settled(row):
                return False
        await ended
        return True
    finally:
        ended.cancel()


def _say_waiting(engine: Engine, run_id: str, store: str, code: str) -> int:
    say(f"Run {run_id} is parked. It waits for a person:", "yellow")
    show_questions(open_questions(engine, run_id), store)
    say(f"Then go on with: cadenza resume {run_id} {shlex.quote(code)}{store_flag(store)}")
    return exit_codes.WAITING


def _report(engine: Engine, instance: Instance, run_id: str, flag: str, *, as_json: bool) -> int:
    from cadenza.cli.history import read_history

    row = engine.find(run_id)
    last = engine.store.last_event(row.no)
    used = read_history(engine, row).used()
    took = row.ended_at - row.created_at
    usage = total(used) if used else None
    paid = usage.price_usd if usage is not None else None
    done = isinstance(last, events.RunCompleted)
    if as_json:
        shown: dict[str, Any] = {"run_id": run_id, "agent": instance.key, "status": row.shown_status}
        if isinstance(last, events.RunCompleted):
            shown["output"] = json.loads(last.value)
        else:
            shown["problem"] = row.detail
        print_json(shown | {"took_s": took / 1_000_000, "price_usd": paid, "usage": str(usage) if usage else ""})
        return exit_codes.OK if done else exit_codes.FAILED
    expected = f"; its card expects {price(instance)}" if usage is None and instance.card.price_usd is not None else ""
    spent = str(usage) if usage is not None else f"price unknown{expected}"
    if isinstance(last, events.RunCompleted):
        say(f"✓ {key_of(instance)} answered in {seconds(took)}: {spent}", "green")
        print_json(json.loads(last.value))
    else:
        say(f"✗ {key_of(instance)} failed after {seconds(took)}", "bold red")
        say(failure_text(last.failure) if isinstance(last, events.RunFailed) else row.detail)
    if engine.catalogue.path is not None:
        say(f"Look at it: cadenza show {shlex.quote(run_id)}{flag}", "dim")
    return exit_codes.OK if done else exit_codes.FAILED
