"""The command: `python -m examples.research`.

Exit codes: 0 done, every company researched; 1 it failed, 2 the input is wrong, 3 the analyst is asked, 10 done, with
gaps; 130 stopped by Ctrl-C.
"""

import argparse
import asyncio
import contextlib
import hashlib
import os
import shlex
import socket
import subprocess
import sys
import urllib.parse
from pathlib import Path

from rich.console import Console

from cadenza import Answer, CadenzaError, Engine, UnknownName
from cadenza.agents.models import resolve
from cadenza.errors import UsageError

from .agents import PICKS, SITE
from .companies import companies
from .model_reader import CONFIGURED_BY, take_seat
from .progress import Progress
from .report import Summary
from .research import Request, research

COMPLETE, FAILED, BAD_INPUT, WAITS, WITH_GAPS, STOPPED = 0, 1, 2, 3, 10, 130
DEFAULT_STORE = "cadenza.db"


class BadInput(Exception):
    """What was asked for cannot be done; says why."""


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    console, errors = Console(highlight=False), Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    try:
        request = prepared(options)
        server, code = site(options.out / "site.log", console), FAILED
        try:
            code = asyncio.run(go_on(request, options, console))
        finally:
            if server is not None and code != WAITS:
                server.terminate()
        return code
    except BadInput as error:
        errors.print(str(error), style="red")
        return BAD_INPUT
    except CadenzaError as error:
        errors.print(str(error), style="red")
        return FAILED
    except KeyboardInterrupt:
        console.print("\nStopped. Nothing is lost: the same command goes on with this run.")
        return STOPPED


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser("python -m examples.research", description="Research on 50 made-up companies.")
    made.add_argument("--out", type=Path, default=Path("research-report"), help="folder of the reports")
    made.add_argument("--store", default=os.environ.get("CADENZA_STORE", DEFAULT_STORE), help="database of the run")
    made.add_argument("--budget", type=float, default=0.45, metavar="USD", help="for reading pages (default: 0.45)")
    made.add_argument(
        "--pick", metavar="NAME,…", help=f"answer for the analyst: {PICKS} names; or top: the first {PICKS}"
    )
    made.add_argument("--model", default=os.environ.get(CONFIGURED_BY, ""), help="reads what is no table, as ollama:…")
    made.add_argument("--slow", type=float, default=0.0, metavar="SECONDS", help="pause in each company")
    made.add_argument("--fresh", action="store_true", help="start anew, even if there is unfinished research")
    return made


def site(log: Path, console: Console) -> subprocess.Popen[str] | None:
    """The web of this example, in a process of its own; None if it is up already. Raises BadInput."""
    port = urllib.parse.urlsplit(SITE).port or 80
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        console.print(f"The site at {SITE} is up already.", soft_wrap=True)
        return None
    command = [sys.executable, "-m", "examples.research.site", "--port", str(port), "--log", str(log)]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    if not process.stdout.readline():
        raise BadInput(f"no site can be served at {SITE}. Name another port: RESEARCH_SITE=http://127.0.0.1:8751")
    return process


def prepared(options: argparse.Namespace) -> Request:
    """Check what can be wrong before it starts. Raises BadInput."""
    if options.model:
        try:
            resolve(options.model)
        except UsageError as error:
            raise BadInput(str(error)) from None
        take_seat(options.model)
    if options.budget <= 0:
        raise BadInput(f"--budget is a positive number of dollars, not {options.budget}")
    return Request(str(options.out.absolute()), options.budget, options.slow, options.model)


async def go_on(request: Request, options: argparse.Namespace, console: Console) -> int:
    """As far as possible: to the end, or to where only the analyst can bring it further."""
    named = "\n".join([request.out, str(request.budget_usd), request.model])
    id = f"research-{hashlib.sha256(named.encode()).hexdigest()[:12]}"
    async with Engine.open(options.store) as engine:
        progress = Progress(console, len(companies()))
        engine.observe(progress)
        anew = options.fresh or has_ended(engine, id)
        handle = await engine.start(research, request, id=id, on_conflict="replace" if anew else "join")
        console.print(f"Run {handle.run_id}, remembered in {options.store}", soft_wrap=True)
        await handle.settled()
        if progress.replayed:
            console.print(
                f"{progress.replayed} companies were finished by an earlier process, and not looked at again."
            )
        for row, task in engine.tasks(handle.run_id) if options.pick else []:
            names = task.details["input"]["companies"]
            chosen = names[:PICKS] if options.pick == "top" else [each.strip() for each in options.pick.split(",")]
            if unknown := sorted(set(chosen) - set(names)):
                raise BadInput(f"--pick names {', '.join(unknown)}, which the ranking does not; see its names there")
            if len(set(chosen)) != PICKS:
                raise BadInput(f"--pick takes {PICKS} companies, not {len(set(chosen))}")
            await engine.answer(handle.run_id, row.path, Answer(value=chosen, by="--pick"))
            await handle.settled()
        for row, task in engine.tasks(handle.run_id):
            show_question(handle.run_id, row.path, task.title, options.store, options.out, console)
            return WAITS
        summary = await handle.result()
    show(summary, console)
    return WITH_GAPS if summary.gaps else COMPLETE


def has_ended(engine: Engine, id: str) -> bool:
    try:
        return engine.find(id).ended
    except UnknownName:
        return False


def show_question(run_id: str, path: str, title: str, store: str, out: Path, console: Console) -> None:
    place = f" --store {shlex.quote(store)}" if store != DEFAULT_STORE else ""
    console.print(f"\n{title}\nThe ranking is in {out / 'report.md'}; the run waits. Answer with", soft_wrap=True)
    console.print(f"  cadenza answer {run_id} {path} --value '[\"NAME\", …]'{place}", markup=False, soft_wrap=True)
    console.print("and give the same command again; or give it with --pick NAME,NAME,… or --pick top.", soft_wrap=True)


def show(summary: Summary, console: Console) -> None:
    for name, why in summary.gaps.items():
        console.print(f"  gap: {name}: {why}", style="yellow", markup=False, soft_wrap=True)
    console.print(
        f"{summary.done} companies researched, {len(summary.gaps)} gaps, {summary.conflicts} conflicts, "
        f"{len(summary.flagged)} flagged, {len(summary.repaired)} repaired, {len(summary.dives)} deep dives. "
        f"${summary.spent_usd:.3f} of ${summary.cap_usd:.2f} spent.",
        soft_wrap=True,
    )  # fmt: skip
    for file in summary.files:
        console.print(f"  {file}", soft_wrap=True, markup=False)


if __name__ == "__main__":
    sys.exit(main())
