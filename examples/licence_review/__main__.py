"""The command: `python -m examples.licence_review`. Exit codes: 0 allowed, 1 failed, 2 bad input, 3 waits, 4 forbidden."""

import argparse
import asyncio
import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from cadenza import CadenzaError, Engine, RunHandle, UnknownName

from .documents import EnvironmentNotFound, distribution_folders, find_site
from .outcome import Summary
from .people import AnswersError, People, load_answers
from .policy import PolicyError, load_policy
from .progress import Progress
from .review import Request, licence_review

ALLOWED, FAILED, BAD_INPUT, WAITS, FORBIDDEN = range(5)
POLICY = Path(__file__).with_name("policy.yaml")


@dataclass(frozen=True)
class Job:
    """What was asked for on the command line, checked."""

    id: str
    request: Request
    store: str
    fresh: bool


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    console = Console(highlight=False)
    try:
        job = prepare(options)
        answers = load_answers(options.answer_file) if options.answer_file else {}
    except (EnvironmentNotFound, PolicyError, AnswersError) as error:
        Console(stderr=True).print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        return BAD_INPUT
    people = People(answers, str(options.answer_file), yes=options.yes, console=console)
    try:
        return asyncio.run(review(job, people, console))
    except KeyboardInterrupt:
        console.print("\nStopped. Nothing is lost: the same command goes on with this run.")
        return WAITS
    except CadenzaError as error:
        Console(stderr=True).print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        return FAILED


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser("python -m examples.licence_review", description="Review the licences of an environment.")
    made.add_argument("--path", type=Path, default=Path(sys.prefix), help="a venv, site-packages folder, prefix or python")
    made.add_argument("--policy", type=Path, default=POLICY, help="the policy file (default: the one beside this program)")
    made.add_argument("--out", type=Path, default=Path("licence-review"), help="folder of the reports")
    made.add_argument("--store", default="cadenza.db", help="the database that remembers the run")
    made.add_argument("--yes", action="store_true", help="approve every package that needs review")
    made.add_argument("--answer-file", type=Path, help="YAML: one line a package, 'PACKAGE: allow' or 'PACKAGE: forbid'")
    made.add_argument("--fresh", action="store_true", help="start anew, even if a review of this environment is unfinished")
    made.add_argument("--slow", type=float, default=0.0, metavar="SECONDS", help="wait so long in each package, to try kill -9")
    return made


def prepare(options: argparse.Namespace) -> Job:
    """Check everything that can be wrong before anything is started. Raises EnvironmentNotFound, PolicyError."""
    site = find_site(options.path)
    policy = load_policy(options.policy)
    out = str(options.out.absolute())
    request = Request(str(site), policy, out, options.slow)
    digest = hashlib.sha256("\n".join([str(site), policy.sha256, out]).encode()).hexdigest()
    return Job(f"licence-review-{digest[:12]}", request, options.store, options.fresh)


async def review(job: Job, people: People, console: Console) -> int:
    progress = Progress(len(distribution_folders(Path(job.request.site))), console)
    async with Engine.open(job.store) as engine:
        engine.observe(progress)
        handle = await start(engine, job)
        console.print(f"Reviewing {job.request.site}\nRun {handle.run_id}, remembered in {job.store}", soft_wrap=True)
        await watch(handle, progress, console)
        if waiting := await ask(engine, handle, people):
            await watch(handle, progress, console)
            show_waiting(waiting, handle, people, console)
            return WAITS
        await watch(handle, progress, console)
        summary = await handle.result()
    show_summary(summary, people, console)
    return FORBIDDEN if summary.forbidden else ALLOWED


async def start(engine: Engine, job: Job) -> RunHandle[Summary]:
    """Go on with the unfinished review of this environment and policy, or begin one."""
    try:
        ended = engine.find(job.id).ended
    except UnknownName:
        ended = False
    anew = job.fresh or ended
    return await engine.start(licence_review, job.request, id=job.id, on_conflict="replace" if anew else "join")


async def watch(handle: RunHandle[Summary], progress: Progress, console: Console) -> None:
    """Show what happens until the run has ended, or only waits for people."""
    if not console.is_terminal:
        await handle.settled()
        return
    with Live(progress, console=console, refresh_per_second=8):
        await handle.settled()


async def ask(engine: Engine, handle: RunHandle[Summary], people: People) -> list[dict[str, Any]]:
    """Answer what can be answered; returns the questions that stay open."""
    waiting: list[dict[str, Any]] = []
    for row, task in engine.tasks(handle.run_id):
        answer = await asyncio.to_thread(people.answer, task.details)
        if answer is None:
            waiting.append(task.details)
        else:
            await engine.answer(handle.run_id, row.path, answer)
    return waiting


def show_waiting(waiting: list[dict[str, Any]], handle: RunHandle[Summary], people: People, console: Console) -> None:
    table = Table("package", "version", "licence", "why a person is asked", box=box.SIMPLE_HEAD)
    for details in waiting:
        table.add_row(details["package"], details["version"], details["licence"] or "unresolved", details["policy"])
    lines = "\n".join(f"  {details['package']}: allow" for details in waiting)
    console.print(f"\n{len(waiting)} of the packages wait for a person; everything else is done and remembered.")
    console.print(table)
    console.print(f"Write allow or forbid for each into a file, for example answers.yaml:\n\n{lines}\n", markup=False)
    console.print("and run the same command with --answer-file answers.yaml, or with --yes to allow all of them.")
    console.print(f"Or answer one at a time with: cadenza answer {handle.run_id}", soft_wrap=True)
    show_unused(people, console)


def show_summary(summary: Summary, people: People, console: Console) -> None:
    if summary.attention:
        table = Table("package", "licence", "verdict", "decided by", "policy", box=box.SIMPLE_HEAD)
        for row in summary.attention:
            verdict = "[green]allowed[/green]" if row.allowed else "[red]forbidden[/red]"
            table.add_row(escape(row.package), row.licence, verdict, escape(row.decided_by), row.reason)
        console.print(table)
    licences = ", ".join(f"{licence} {count}" for licence, count in summary.licences.items())
    console.print(f"Licences: {licences}")
    colour = "red" if summary.forbidden else "green"
    counts = f"{summary.packages} packages, {summary.documents} documents"
    console.print(f"[bold]{counts}: [{colour}]{summary.forbidden} forbidden[/{colour}], {summary.asked} decided by a person.[/bold]")
    console.print(summary.replay)
    show_unused(people, console)
    for file in summary.files:
        console.print(f"  {file}", soft_wrap=True)


def show_unused(people: People, console: Console) -> None:
    if people.unused:
        names = ", ".join(people.unused)
        console.print(f"[yellow]Answers that nobody asked for (not installed, or decided by the policy): {escape(names)}[/yellow]")


if __name__ == "__main__":
    sys.exit(main())
