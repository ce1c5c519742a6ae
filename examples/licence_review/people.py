"""Who answers the questions: a file of answers, `--yes`, or the person at the terminal."""

import getpass
import re
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.prompt import Prompt

from cadenza import Answer

from .review import OPTIONS

LATER = "later"


class AnswersError(Exception):
    """The answer file cannot be used. Says the file, the line, what is wrong, and what is allowed."""

    def __init__(self, file: Path, line: int, problem: str) -> None:
        super().__init__(file, line, problem)
        self.file, self.line, self.problem = file, line, problem

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.problem}\n  allowed here: one line a package, PACKAGE: {' or '.join(OPTIONS)}"


class People:
    """Answers by package. What the file does not name is approved with `yes`, else asked where there is a terminal."""

    def __init__(self, answers: dict[str, str], source: str, *, yes: bool, console: Console) -> None:
        self._answers = {_spelled(package): choice for package, choice in answers.items()}
        self._source, self._yes, self._console = source, yes, console
        self.unused = dict.fromkeys(answers)  # named in the file, and nobody asked

    def answer(self, details: dict[str, Any]) -> Answer | None:
        """The answer to one question, or None: it stays open."""
        package = str(details["package"])
        choice = self._answers.get(_spelled(package))
        if choice is not None:
            self.unused = {each: None for each in self.unused if _spelled(each) != _spelled(package)}
            return Answer(choice=choice, by=f"by {self._source}")
        if self._yes:
            return Answer(choice="allow", by="by --yes")
        return self._ask(details) if self._console.is_terminal and self._console.is_interactive else None

    def _ask(self, details: dict[str, Any]) -> Answer | None:
        console = self._console
        console.print(f"\n[bold]May {details['package']} {details['version']} be used?[/bold]", highlight=False)
        for name in ("licence", "declared", "found_in_texts", "arbiter", "policy"):
            value = details[name]
            shown = ", ".join(map(str, value)) if isinstance(value, list) else value
            console.print(f"  {name.replace('_', ' '):<15} {shown or 'nothing'}", highlight=False, markup=False)
        choice = Prompt.ask("  Your answer", choices=[*OPTIONS, LATER], console=console)
        return None if choice == LATER else Answer(choice=choice, by=getpass.getuser())


def load_answers(file: Path) -> dict[str, str]:
    """Read `{package: allow | forbid}`. Raises AnswersError."""
    try:
        document = yaml.compose(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise AnswersError(file, 1, f"cannot be read ({error})") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise AnswersError(file, line, f"is not YAML: {error.problem}") from error
    if document is None:
        return {}
    if not isinstance(document, yaml.MappingNode):
        raise AnswersError(file, 1, "is not a mapping")
    answers: dict[str, str] = {}
    for key, value in document.value:
        line = key.start_mark.line + 1
        if value.value not in OPTIONS:
            raise AnswersError(file, line, f"{key.value}: {value.value!r} is no answer")
        if key.value in answers:
            raise AnswersError(file, line, f"{key.value} is answered twice")
        answers[key.value] = value.value
    return answers


def _spelled(package: str) -> str:
    """Package names are compared as installers do (PEP 503)."""
    return re.sub(r"[-_.]+", "-", package).lower()
