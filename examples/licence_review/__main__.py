"""The command: `python -m examples.licence_review`.

Exit codes: 0 all allowed, 1 the review failed, 2 the input is wrong, 3 questions wait for a person, 10 some forbidden,
130 stopped by Ctrl-C.
"""

import argparse
import asyncio
import hashlib
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from cadenza import Answer, CadenzaError, Engine, UnknownName

from .documents import EnvironmentNotFound, distribution_folders, find_site
from .model_arbiter import ModelError, check, configured, take_seat
from .outcome import Summary
from .people import AnswersError, People, Question, load_answers
from .policy import PolicyError, load_policy
from .progress import Progress
from .review import Request, licence_review
from .terminal import show_summary, show_unused, show_waiting

ALL_ALLOWED, FAILED, BAD_INPUT, WAITS, SOME_FORBIDDEN, STOPPED = 0, 1, 2, 3, 10, 130
STORE = os.environ.get("CADENZA_STORE", "cadenza.db")  # as the cadenza command has it
POLICY = Path(__file__).with_name("policy.yaml")


@dataclass(frozen=True)
class Job:
    """What was asked for on the command line, checked. The same environment, policy and folder give the same id."""

    id: str
    request: Request
    store: str
    fresh: bool


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    console, errors = Console(highlight=False), Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    try:
        job = prepare(options)
        answers = load_answers(options.answer_file) if options.answer_file else {}
        people = People(answers, str(options.answer_file), yes=options.yes, console=console)
        return review(job, people, console)
    except (EnvironmentNotFound, PolicyError, AnswersError, ModelError) as error:
        errors.print(str(error), style="red")
        return BAD_INPUT
    except OSError as error:
        errors.print(f"--out {options.out} cannot be used: {error.strerror}", style="red")
        return BAD_INPUT
    except CadenzaError as error:
        errors.print(str(error), style="red")
        return FAILED
    except KeyboardInterrupt:
        console.print("\nStopped. Nothing is lost: the same command goes on with this run.")
        return STOPPED


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser("python -m examples.licence_review", description="Review an environment's licences.")
    made.add_argument(
        "--path", type=Path, default=Path(sys.prefix), help="venv, site-packages folder, prefix or python"
    )
    made.add_argument("--policy", type=Path, default=POLICY, help="policy file (default: policy.yaml of this example)")
    made.add_argument("--out", type=Path, default=Path("licence-review"), help="folder of the reports")
    made.add_argument("--store", default=STORE, help="database that remembers the run (default: cadenza.db)")
    made.add_argument("--yes", action="store_true", help="allow every package that needs review")
    made.add_argument(
        "--answer-file", type=Path, help="YAML, one line a package: 'PACKAGE: allow' or 'PACKAGE: forbid'"
    )
    made.add_argument("--fresh", action="store_true", help="start anew, even if this review is unfinished")
    made.add_argument(
        "--model",
        default=configured(),
        help="model that arbitrates, as ollama:llama3.2 (default: $CADENZA_MODEL, or the rules)",
    )
    made.add_argument(
        "--slow", type=seconds, default=0.0, metavar="SECONDS", help="pause in each package, to try kill -9"
    )
    return made


def seconds(text: str) -> float:
    if not 0 <= (value := float(text)) <= 60:
        raise argparse.ArgumentTypeError("a number of seconds from 0 to 60")
    return value


def prepare(options: argparse.Namespace) -> Job:
    """Check what can be wrong before it starts. Raises EnvironmentNotFound, PolicyError, ModelError, OSError."""
    site, policy, out = find_site(options.path), load_policy(options.policy), options.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    if options.model:
        check(options.model)
        take_seat(options.model)
    named = "\n".join(filter(None, [str(site), policy.sha256, str(out), options.model]))
    digest = hashlib.sha256(named.encode()).hexdigest()
    request = Request(str(site), policy, str(out), options.slow, options.model)
    return Job(f"licence-review-{digest[:12]}", request, options.store, options.fresh)


def review(job: Job, people: People, console: Console) -> int:
    """Let the agents work, then the people, then the agents again. While people think, nothing runs."""
    progress = Progress(len(distribution_folders(Path(job.request.site))), console)
    result = asyncio.run(advance(job, {}, progress, console))
    if isinstance(result, list) and (answers := people.answers(result)):
        result = asyncio.run(advance(replace(job, fresh=False), answers, None, console))
    if isinstance(result, list):
        show_waiting(result, job.store, console)
    else:
        show_summary(result, console)
    show_unused(people.unused, console)
    if isinstance(result, list):
        return WAITS
    return SOME_FORBIDDEN if result.forbidden else ALL_ALLOWED


async def advance(
    job: Job, answers: dict[str, Answer], progress: Progress | None, console: Console
) -> Summary | list[Question]:
    """Go on with the review as far as possible: to its end, or to where only people can bring it further."""
    async with Engine.open(job.store) as engine:
        if progress is not None:
            engine.observe(progress)
        anew = job.fresh or has_ended(engine, job.id)
        handle = await engine.start(licence_review, job.request, id=job.id, on_conflict="replace" if anew else "join")
        for row, _ in engine.tasks(handle.run_id):  # somebody else may have answered meanwhile
            if answer := answers.get(row.path):
                await engine.answer(handle.run_id, row.path, answer)
        if progress is None:
            await handle.settled()
        else:
            console.print(
                f"Reviewing {job.request.site}\nRun {handle.run_id}, remembered in {job.store}", soft_wrap=True
            )
            with progress:
                await handle.settled()
        questions = [Question(row.path, handle.run_id, task.details) for row, task in engine.tasks(handle.run_id)]
        return questions or await handle.result()


def has_ended(engine: Engine, id: str) -> bool:
    try:
        return engine.find(id).ended
    except UnknownName:
        return False


if __name__ == "__main__":
    sys.exit(main())
