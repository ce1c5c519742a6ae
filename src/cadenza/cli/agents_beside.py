"""The agents that a project has written down: ``agents/*.yaml`` beside the file with its workflows."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from cadenza.errors import AgentFileInvalid

if TYPE_CHECKING:
    from cadenza.agents.files import AgentFile
    from cadenza.durable.lint import Finding

FOLDER = "agents"
RULE = "agents"


def agent_files_in(project: Path) -> list[Path]:
    """The agents' files of a project's folder. A project without any costs a look at the folder, and no import."""
    if not (project / FOLDER).is_dir():
        return []
    from cadenza.agents.files import agent_files

    return agent_files(project / FOLDER)


def load_agents_beside(module: ModuleType) -> None:
    """Register the agents that are written down beside a module's file. Raises AgentFileInvalid."""
    place = getattr(module, "__file__", None)
    if place and agent_files_in(Path(place).parent):
        from cadenza.agents.files import load_agents

        load_agents(Path(place).parent / FOLDER)


def agent_files_among(files: Iterable[Path]) -> list[Path]:
    """The agents' files beside any of these Python files."""
    return [each for folder in dict.fromkeys(file.parent for file in files) for each in agent_files_in(folder)]


def check_agent_file(path: Path) -> list[Finding]:
    """What is wrong in an agent's file, found without importing what it refers to."""
    from cadenza.agents.files import AgentFile
    from cadenza.durable.lint import Finding

    try:
        file = AgentFile(path)
        problems = [*_broken_references(file)]
    except AgentFileInvalid as error:
        problems = error.problems
    return [Finding(str(path), max(line, 1), 1, RULE, problem, "error") for line, problem in problems]


def _broken_references(file: AgentFile) -> Iterable[tuple[int, str]]:
    said = file.definition
    places: list[tuple[str, tuple[str | int, ...]]] = [(each, ("tools", at)) for at, each in enumerate(said.tools)]
    places += [(said.output, ("output",))] if isinstance(said.output, str) else []
    places += [(said.input, ("input",))] if said.input else []
    for reference, loc in places:
        if problem := _broken(reference, file.path.parent.parent):
            yield file.line(*loc), f"{reference}: {problem}"


def _broken(reference: str, project: Path) -> str | None:
    """Why a reference leads nowhere; None if it does not, or if only an import could tell."""
    import difflib

    module, _, name = reference.partition(":")
    base = project.joinpath(*module.split("."))
    source = next((each for each in (base.with_suffix(".py"), base / "__init__.py") if each.is_file()), None)
    if source is None:
        head = module.partition(".")[0]
        if (project / head).exists() or importlib.util.find_spec(head) is None:
            return f"there is no module {module}; a module beside agents/ is named without .py"
        return None
    names = _names_in(source)
    head = name.partition(".")[0]
    if names is None or head in names:
        return None
    close = difflib.get_close_matches(head, names, n=2, cutoff=0.6)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    return f"{module} has no {head!r}.{hint}"


def _names_in(source: Path) -> set[str] | None:
    """The names that a module defines at its top; None if they cannot be told without importing it."""
    try:
        tree = ast.parse(source.read_bytes())
    except (SyntaxError, ValueError):
        return None
    names: set[str] = set()
    for each in ast.walk(tree):
        match each:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names.add(each.name)
            case ast.Name(ctx=ast.Store()):
                names.add(each.id)
            case ast.alias():
                if each.name == "*":
                    return None
                names.add(each.asname or each.name.partition(".")[0])
            case _:
                pass
    return names
