"""``cadenza worker``: run whatever is ready."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import Annotated, Any

import typer

from cadenza.cli import exit_codes
from cadenza.cli.interrupts import Interrupts
from cadenza.cli.place import StoreOption, location
from cadenza.cli.selection import seconds_of
from cadenza.cli.streams import clean, say
from cadenza.engine.alerts import check_alerts
from cadenza.engine.engine import GRACE_S, Engine
from cadenza.engine.live import Live
from cadenza.engine.options import Alerts, EngineOptions, Retention
from cadenza.engine.store import ENDED, Filter
from cadenza.errors import UnknownName, UsageError

SHOWN = {
    "started": "▸ started", "resumed": "▸ goes on", "completed": "✓ completed", "failed": "✗ failed",
    "cancelled": "– cancelled", "parked": "· parked", "blocked": "■ blocked",
}  # fmt: skip
STEPS_SHOWN = {"failed": "✗", "retrying": "↻", "unknown": "?", "asked": "?"}


def worker(
    targets: Annotated[list[str], typer.Argument(metavar="TARGET", help="Files or modules that define workflows.")],
    *,
    slots: Annotated[int, typer.Option("--slots", min=1, help="How many runs are in memory at once.")] = 1_000,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            "--keep", metavar="STATUS=AGE", help="Purge runs that ended so longer ago: completed=30d. May be repeated."
        ),
    ] = None,
    alert_command: Annotated[
        str, typer.Option("--alert-command", metavar="CMD", help="Called with JSON when a run fails or is blocked.")
    ] = "",
    alert_url: Annotated[
        str, typer.Option("--alert-url", metavar="URL", help="Gets JSON by POST when a run fails or is blocked.")
    ] = "",
    store: StoreOption = "cadenza.db",
) -> None:
    """Run whatever is ready in a store. Ctrl-C or SIGTERM drains: steps in flight end, runs are released.

    Each worker that starts gives blocked runs one more try.
    """
    from cadenza.cli.run import log_to_terminal
    from cadenza.cli.target import load, workflows_of

    retention = _retention(keep or [])
    alerts = Alerts(alert_command, alert_url) if alert_command or alert_url else None
    if alerts is not None:
        check_alerts(alerts)
    log_to_terminal(ends=False)
    names: list[str] = []
    for target in targets:
        place = target.rpartition(":")[0] if ":" in target else target
        names += [each.name for each in workflows_of(load(place)).values()]
    if not names:
        raise UsageError(f"{', '.join(targets)} define no workflow. Decorate an async function with @workflow.")
    if store == ":memory:":
        raise UsageError("a worker needs a store that others share; name a file")

    options = EngineOptions(adopt_all=True, slots=slots, retention=retention, alerts=alerts)

    async def main(interrupts: Interrupts) -> None:
        async with Engine.open(location(store), options) as engine:
            engine.observe(_print)
            _greet(engine, names, store)
            await interrupts.wait()
            await _drain(engine)

    with Interrupts() as interrupts:
        asyncio.run(main(interrupts))
    raise typer.Exit(exit_codes.OK)


def _retention(keep: list[str]) -> Retention:
    """What ``--keep`` says. Raises UnknownName, UsageError."""
    days: dict[str, float] = {}
    for each in keep:
        status, _, age = each.partition("=")
        if status not in ENDED:
            raise UnknownName("status of an ended run", status, ENDED, "Write for example: --keep completed=30d")
        days[f"{status}_days"] = seconds_of(age) / 86_400
    return Retention(**days)


def _greet(engine: Engine, names: list[str], store: str) -> None:
    from cadenza.durable.define import workflows

    say(f"Worker {os.getpid()} on {store}: {', '.join(dict.fromkeys(names))}. Ctrl-C drains.", "bold")
    waiting = engine.runs(Filter(("ready", "waiting", "blocked", "running"), limit=1_000))
    unknown = sorted({row.workflow for row in waiting} - workflows.keys())
    if unknown:
        strange = ", ".join(unknown[:5])
        say(f"warning: this worker does not know {strange}: their runs will block. Name their files too.", "yellow")


async def _drain(engine: Engine) -> None:
    assert engine.worker is not None
    count = len(engine.worker.runners)
    if count:
        runs = "1 run" if count == 1 else f"{count} runs"
        say(f"Draining {runs}: waiting up to {GRACE_S:.0f} s for steps in flight. Again stops at once.", "yellow")
    await engine.worker.drain(GRACE_S)
    left = len(engine.worker.runners)
    say("Drained." if not left else f"{left} runs had steps that did not end; others take them over.", "yellow")
    await engine.close(0.0)


def _print(live: Live) -> None:
    """One line for each run that comes and goes, and for each trouble."""
    if live.kind == "run":
        mark = SHOWN.get(live.state)
        if mark is not None:
            _line(
                f"{live.run_id}  {mark}  {live.name.rpartition(':')[2]}",
                live.detail if live.state == "blocked" else None,
            )
    elif live.state in STEPS_SHOWN:
        what = "asks" if live.state == "asked" else live.state
        detail = live.name if live.state == "asked" else live.detail
        _line(f"{live.run_id}  {STEPS_SHOWN[live.state]} {what}  {live.path}", detail)


def _line(text: str, detail: Any) -> None:
    clock = time.strftime("%H:%M:%S")
    extra = f"  {' '.join(str(detail).split())}" if detail is not None else ""
    sys.stderr.write(clean(f"{clock}  {text}{extra}") + "\n")
    sys.stderr.flush()
