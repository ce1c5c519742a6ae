"""What the terminal shows at the end: the summary, or what waits for a person and how to answer."""

import os
import shlex
from collections.abc import Iterable

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from .outcome import Summary
from .people import Question


def show_waiting(questions: list[Question], store: str, console: Console) -> None:
    table = Table(Column("package", no_wrap=True), "licence", "why a person is asked", box=box.SIMPLE_HEAD)
    for question in questions:
        details = question.details
        table.add_row(escape(question.title), escape(details["licence"]), escape(details["policy"]))
    lines = "\n".join(f"  {question.package}: allow" for question in questions)
    console.print("\nThese packages wait for a person. Everything else is done, and remembered.")
    console.print(table)
    console.print(f"Write allow or forbid for each into a file, for example answers.yaml:\n\n{lines}\n", markup=False)
    console.print("and run the same command with --answer-file answers.yaml, or with --yes to allow all of them.")
    place = f" --store {shlex.quote(store)}" if store != os.environ.get("CADENZA_STORE", "cadenza.db") else ""
    first = questions[0]
    console.print("Or answer one at a time, for example:")
    console.print(f"  cadenza answer {first.run_id} {first.path} --choice allow{place}", soft_wrap=True, markup=False)


def show_summary(summary: Summary, console: Console) -> None:
    if summary.attention:
        columns = (Column("package", no_wrap=True), "licence", "verdict", "decided by")
        table = Table(*columns, box=box.SIMPLE_HEAD)
        for row in summary.attention:
            verdict = "[green]allowed[/]" if row.allowed else "[red]forbidden[/]"
            table.add_row(escape(row.package), row.licence, verdict, escape(row.decided_by))
        console.print(table)
    console.print("Licences: " + ", ".join(f"{count}×{licence}" for licence, count in summary.licences.items()))
    forbidden = f"[{'red' if summary.forbidden else 'green'}]{summary.forbidden} forbidden[/]"
    counts = f"{summary.packages} packages, {summary.documents} documents"
    console.print(f"[bold]{counts}: {forbidden}, {summary.asked} needed review.[/bold]")
    console.print(summary.replay)
    console.print(summary.arbiters, markup=False)
    for file in summary.files:
        console.print(f"  {file}", soft_wrap=True, markup=False)


def show_unused(packages: Iterable[str], console: Console) -> None:
    if names := ", ".join(packages):
        console.print(f"Answers that nobody asked for (not installed, or the policy decided): {names}", style="yellow")
