"""``cadenza signal``, ``answer`` and ``cancel``: what people say to runs."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from cadenza.cli import exit_codes
from cadenza.cli.asking import ask, details_lines, user
from cadenza.cli.completion import RunArgument, run_ids
from cadenza.cli.place import JsonOption, StoreOption, family, reading, store_flag
from cadenza.cli.questions import Question, how_to_answer, open_questions
from cadenza.cli.selection import (
    ChildrenOption,
    Choice,
    DryRunOption,
    StatusOption,
    WhereOption,
    WorkflowOption,
    YesOption,
    filter_of,
    over_all,
)
from cadenza.cli.streams import is_interactive, paint, print_json, say, show
from cadenza.cli.workers import say_who_goes_on
from cadenza.durable import codec, events
from cadenza.durable.human import Answer
from cadenza.engine.engine import Engine
from cadenza.engine.store import RunRow
from cadenza.errors import UsageError

OptionalRun = Annotated[
    str, typer.Argument(metavar="RUN", autocompletion=run_ids, help="One run; or choose many by the options.")
]


def signal(
    run_id: Annotated[
        str, typer.Argument(metavar="RUN", autocompletion=run_ids, help="One run; left out if the options choose many.")
    ],
    name: Annotated[str, typer.Argument(metavar="NAME", help="The message's name: ctx.receive(NAME) gets it.")] = "",
    value: Annotated[str | None, typer.Argument(metavar="JSON", help="Its value: JSON, @file.json, or -.")] = None,
    *,
    key: Annotated[str, typer.Option("--key", help="Deduplicates: a second message with this key is ignored.")] = "",
    where: WhereOption = None,
    status: StatusOption = None,
    workflow: WorkflowOption = "",
    children: ChildrenOption = False,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    store: StoreOption = "cadenza.db",
) -> None:
    """Send a run a message, or many runs the same one.

    \b
    cadenza signal RUN paid 12.5
    cadenza signal --where topic=refund --status waiting paid 12.5
    """
    from cadenza.cli.target import read_json

    if where or status or workflow:
        if value is not None:
            raise UsageError("the options choose the runs: cadenza signal --where … NAME JSON, without RUN")
        run_id, name, value = "", run_id, name or None
    if not name:
        raise UsageError("say the message's name: cadenza signal RUN NAME JSON")
    filter = filter_of(where, status, workflow, run_id)
    given = None if value is None else read_json(value, "the value")
    if filter is not None:

        async def send(engine: Engine, row: RunRow) -> None:
            await engine.signal(row.run_id, name, given, key=key)

        over_all(store, filter, send, f"sent {name!r}", Choice(yes, dry_run, children))
        return

    async def main() -> None:
        async with reading(store) as engine:
            row = engine.find(run_id)
            await engine.signal(row.run_id, name, given, key=key)
            say(f"Sent {name!r} to run {row.run_id}.", "green")
            await say_who_goes_on(engine, row.run_id, store)

    asyncio.run(main())


def cancel(
    run_id: OptionalRun = "",
    *,
    reason: Annotated[str, typer.Option("--reason", help="Why; it is written down.")] = "cancelled by a person",
    force: Annotated[
        bool, typer.Option("--force", help="End it without its code: nothing is cleaned up or undone.")
    ] = False,
    where: WhereOption = None,
    status: StatusOption = None,
    workflow: WorkflowOption = "",
    children: ChildrenOption = False,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    store: StoreOption = "cadenza.db",
) -> None:
    """Ask a run, or many, to stop, clean up and undo.

    \b
    cadenza cancel RUN
    cadenza cancel --workflow checkout --where topic=test --dry-run
    """
    if (filter := filter_of(where, status, workflow, run_id)) is not None:

        async def stop(engine: Engine, row: RunRow) -> None:
            await engine.cancel(row.run_id, reason, force=force)

        what = "ended without their code" if force else "asked to stop, clean up and undo"
        over_all(store, filter, stop, what, Choice(yes, dry_run, children))
        return

    async def main() -> None:
        async with reading(store) as engine:
            row = engine.find(run_id)
            await engine.cancel(row.run_id, reason, force=force)
            if force:
                _say_forced(engine, engine.find(row.run_id))
                return
            say(f"Run {row.run_id} is asked to stop, clean up and undo.", "green")
            if row.status == "blocked":
                say(f"To end it without its code: cadenza cancel {row.run_id} --force{store_flag(store)}")
            await say_who_goes_on(engine, row.run_id, store)

    asyncio.run(main())


def _say_forced(engine: Engine, row: RunRow) -> None:
    say(f"Run {row.run_id} is {row.status}; its code was not asked, and nothing was undone.", "yellow")
    children = [each for each in family(engine, row)[1:] if not each.ended]
    if children:
        names = ", ".join(each.run_id for each in children[:5]) + (" …" if len(children) > 5 else "")
        say(f"Its child runs go on: {names}", "yellow")


def answer(
    run_id: RunArgument = "",
    path: Annotated[str, typer.Argument(metavar="PATH", help="Which question, if several are open.")] = "",
    *,
    approve: Annotated[bool | None, typer.Option("--approve/--reject", help="Yes, or no.")] = None,
    choice: Annotated[str, typer.Option("--choice", help="One of the options.")] = "",
    value: Annotated[
        str | None, typer.Option("--value", metavar="JSON", help="A value: JSON, @file.json, or -.")
    ] = None,
    comment: Annotated[str, typer.Option("--comment", help="Why.")] = "",
    by: Annotated[str, typer.Option("--by", help="Who answers; you, by default.")] = "",
    show_list: Annotated[bool, typer.Option("--list", help="List open questions, of one run or of all.")] = False,
    store: StoreOption = "cadenza.db",
    as_json: JsonOption = False,
) -> None:
    """Answer what a run asks. Without options, in a terminal, it asks you."""
    given = _given(approve, choice, value, comment, by or user())

    async def main() -> int:
        async with reading(store) as engine:
            found = engine.find(run_id).run_id if run_id else ""
            questions = open_questions(engine, found)
            if show_list:
                _list(engine, found, questions, store, as_json)
                return exit_codes.OK
            if not run_id:
                raise UsageError(
                    f"name the run whose question is answered. Open questions: cadenza answer --list{store_flag(store)}"
                )
            chosen = _chosen(engine, found, path, questions)
            if given is None:
                return await _ask_all(engine, chosen, store)
            await _give(engine, _the_one(chosen, store), given, store, as_json=as_json)
            return exit_codes.OK

    raise typer.Exit(asyncio.run(main()))


def _given(approve: bool | None, choice: str, value: str | None, comment: str, by: str) -> Answer | None:
    """The answer that the options make; None if there are none."""
    from cadenza.cli.target import read_json

    if approve is None and not choice and value is None:
        if comment:
            raise UsageError("a comment alone is no answer; add --approve, --reject, --choice or --value")
        return None
    if approve is not None and (choice or (value is not None and not approve)):
        raise UsageError("--approve and --reject go with neither --choice nor, to reject, --value")
    read = None if value is None else read_json(value, "--value")
    return Answer(approved=approve, choice=choice, value=read, comment=comment, by=by)


def _chosen(engine: Engine, run_id: str, path: str, questions: list[Question]) -> list[Question]:
    """The open questions that are meant. Raises UsageError if there are none."""
    chosen = [each for each in questions if path in ("", each.path)]
    own = [each for each in chosen if each.run_id == run_id]
    if path and own:
        return own
    if chosen:
        return chosen
    waiting = [each for each in open_questions(engine, run_id, answered=True) if path in ("", each.path)]
    if waiting:
        raise UsageError(
            f"{waiting[0].task.title!r} at {waiting[0].path} was answered already; a worker has yet to take the answer"
        )
    before = _answered_before(engine, run_id, path)
    if before:
        raise UsageError(before)
    row = engine.find(run_id)
    if not questions:
        raise UsageError(f"run {run_id} ({row.shown_status}) has no open question")
    listed = ", ".join(each.path for each in questions[:5])
    raise UsageError(f"run {run_id} has no open question at {path!r}. Open: {listed}")


def _answered_before(engine: Engine, run_id: str, path: str) -> str:
    """What to say of a question that is no longer open."""
    for event in reversed(engine.journal(run_id)):
        if isinstance(event, events.TaskAnswered) and path in ("", event.path):
            given = codec.decode(event.answer, Answer, "the answer")
            said = (
                "approved"
                if given.approved
                else "rejected"
                if given.approved is False
                else given.choice or "with a value"
            )
            return f"the question at {event.path} was answered already: {said}" + (
                f", by {given.by}" if given.by else ""
            )
    return ""


def _the_one(chosen: list[Question], store: str) -> Question:
    if len(chosen) == 1:
        return chosen[0]
    commands = "\n".join(f"  {each.task.title}\n    {how_to_answer(each, store, only=False)}" for each in chosen[:10])
    more = f"\n  … and {len(chosen) - 10} more" if len(chosen) > 10 else ""
    raise UsageError(f"{len(chosen)} questions are open; say which:\n{commands}{more}")


async def _ask_all(engine: Engine, questions: list[Question], store: str) -> int:
    """Ask the person at the terminal one question after the other."""
    if not is_interactive():
        only = len(questions) == 1
        commands = "\n".join(f"  {how_to_answer(each, store, only=only)}" for each in questions[:10])
        raise UsageError(f"there is no terminal to ask at; give the answer as an option:\n{commands}")
    for question in questions:
        given = ask(question)
        if given is not None:
            await _give(engine, question, given, store)
    return exit_codes.OK


async def _give(engine: Engine, question: Question, given: Answer, store: str, *, as_json: bool = False) -> None:
    await engine.answer(question.run_id, question.path, given, asked_at=question.asked_at)
    if as_json:
        print_json({"run_id": question.run_id, "path": question.path, "answered": True})
        return
    say(f"Answered: {question.task.title}", "green")
    await say_who_goes_on(engine, question.run_id, store)


def _list(engine: Engine, run_id: str, questions: list[Question], store: str, as_json: bool) -> None:
    if as_json:
        print_json([each.as_json() for each in questions])
        return
    taken = len(open_questions(engine, run_id, answered=True))
    if taken:
        say(f"{taken} answered already; no worker has taken the answers yet.", "dim")
    if not questions:
        say("No question is open.")
    for question in questions:
        show(paint(f"? {question.task.title}", "magenta"))
        show(paint(f"  run {question.run_id}, {question.path}", "dim"))
        for line in details_lines(question.task.details)[:12]:
            show(f"  {line}")
        show(f"  {how_to_answer(question, store, only=False)}")
