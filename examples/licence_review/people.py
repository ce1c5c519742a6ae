"""Who answers the questions: a file of answers, `--yes`, or the person at the terminal."""

import getpass
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.markup import escape
from rich.prompt import Prompt
from rich.table import Table

from cadenza import Answer

from .review import OPTIONS

LATER = "later"


class AnswersError(Exception):
    """The answer file cannot be used. Says the file, the line, what is wrong, and what is allowed."""

    def __init__(self, file: Path, line: int, problem: str) -> None:
        super().__init__(file, line, problem)
        self.file, self.line, self.problem = file, line, problem

    def __str__(self) -> str:
        allowed = f"one line a package, PACKAGE: {' or '.join(OPTIONS)}"
        return f"{self.file}:{self.line}: {self.problem}\n  allowed here: {allowed}"


@dataclass(frozen=True)
class Question:
    """An open question of a run; `details` are those of its HumanTask."""

    path: str
    run_id: str
    details: dict[str, Any]

    @property
    def package(self) -> str:
        return self.details["package"]

    @property
    def title(self) -> str:
        return f"{self.package} {self.details['version']}"


class People:
    """Answers by package. What the file does not name is allowed with `yes`, else asked where there is a terminal."""

    def __init__(self, choices: dict[str, str], source: str, *, yes: bool, console: Console) -> None:
        self._choices = {_spelled(package): choice for package, choice in choices.items()}
        self._source, self._yes, self._console = source, yes, console
        self.unused = list(choices)  # named in the file, and nobody asked

    def answers(self, questions: list[Question]) -> dict[str, Answer]:
        """The answers that there are, by the questions' paths. Ctrl-C leaves the rest of the questions open."""
        asked = {_spelled(question.package) for question in questions}
        self.unused = [package for package in self.unused if _spelled(package) not in asked]
        answers: dict[str, Answer] = {}
        for number, question in enumerate(questions, 1):
            choice = self._choices.get(_spelled(question.package))
            try:
                if choice is not None:
                    answers[question.path] = Answer(choice=choice, by=self._source)
                elif self._yes:
                    answers[question.path] = Answer(choice="allow", by="--yes")
                elif self._console.is_terminal and sys.stdin.isatty():
                    choice = self._ask(question, f"{number} of {len(questions)}")
                    if choice != LATER:
                        answers[question.path] = Answer(choice=choice, by=getpass.getuser())
            except (KeyboardInterrupt, EOFError):
                break
        return answers

    def _ask(self, question: Question, which: str) -> str:
        console = self._console
        console.print(f"\n[bold]May {escape(question.title)} be used?[/bold] [dim]({which})[/dim]")
        facts = Table.grid(padding=(0, 2))
        for name in ("licence", "declared", "found in texts", "arbiter", "policy"):
            facts.add_row(f"  {name}", escape(str(question.details[name])))
        console.print(facts)
        return Prompt.ask("  Your answer", choices=[*OPTIONS, LATER], console=console)


def load_answers(file: Path) -> dict[str, str]:
    """Read `{package: allow | forbid}`. Raises AnswersError."""
    try:
        document = yaml.compose(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise AnswersError(file, 1, f"cannot be read ({getattr(error, 'strerror', None) or error})") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise AnswersError(file, mark.line + 1 if mark else 1, "is not YAML") from error
    if document is None:
        return {}
    if not isinstance(document, yaml.MappingNode):
        raise AnswersError(file, 1, "is not a mapping")
    answers: dict[str, str] = {}
    for key, value in document.value:
        line = key.start_mark.line + 1
        if value.value not in OPTIONS:
            given = repr(value.value) if isinstance(value, yaml.ScalarNode) else "a list or a mapping"
            raise AnswersError(file, line, f"{key.value}: {given} is no answer")
        if key.value in answers:
            raise AnswersError(file, line, f"{key.value} is answered twice")
        answers[key.value] = value.value
    return answers


def _spelled(package: str) -> str:
    """Package names are compared as installers do (PEP 503)."""
    return re.sub(r"[-_.]+", "-", package).lower()
