"""From source text to findings: every workflow of a module, and what it calls in the same module."""

from __future__ import annotations

import ast
import io
import re
import tokenize
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from cadenza.durable.lint.calls import CallReader, imported_steps
from cadenza.durable.lint.flow import FlowReader
from cadenza.durable.lint.names import FUNCTIONS, FunctionNode, read_names
from cadenza.durable.lint.order import OrderReader
from cadenza.durable.lint.origins import Origins
from cadenza.durable.lint.reader import Hit, Made
from cadenza.durable.lint.rules import SYNTAX, Severity
from cadenza.durable.lint.state import StateReader

CONSTRUCTORS = ("__new__", "__init__", "__post_init__", "model_post_init")
IGNORE = re.compile(r"#\s*cadenza:\s*ignore\[([^\]]*)\]\s*(.*)")
NEWLINE = re.compile(r"\r\n|\r|\n")
Ignored: TypeAlias = dict[int, tuple[set[str], bool]]  # by line: the rules that a comment names; does it give a reason?


@dataclass(frozen=True, order=True)
class Finding:
    """One mistake.

    Attributes:
        file: the name given to ``check_source``.
        line: from 1.
        column: in characters, from 1.
        rule: ``CDZ001`` and so on, a key of ``RULES``.
        message: what was found, in which workflow, why it is wrong, and what to use.
        severity: ``error`` if replay can go wrong, ``warning`` if it is unwelcome, or likely but not certain.
    """

    file: str
    line: int
    column: int
    rule: str
    message: str
    severity: Severity = "error"

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.rule} {self.message}"


def check_source(source: str, filename: str) -> list[Finding]:
    """What in the workflows of one module cannot be replayed.

    Reads every function decorated with ``@workflow``, and the functions, methods and classes of the same module that
    it uses, but not steps and agents, which may do anything. A line with ``# cadenza: ignore[CDZ001] reason`` is let
    through; without a reason it is not.

    Args:
        source: the text of the module.
        filename: names it in the findings; it is not opened.

    Returns:
        The findings in the order of the lines. Source that does not parse is one finding. Nothing is raised.
    """
    source = source.removeprefix("\ufeff")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the compiler's own remarks about the source
            tree = ast.parse(source)
        places = list(_read(tree))
    except SyntaxError as error:
        message = f"invalid syntax: {error.msg}: {SYNTAX.instead}"
        return [Finding(filename, max(error.lineno or 1, 1), max(error.offset or 1, 1), SYNTAX.id, message)]
    except ValueError as error:  # null bytes
        return [Finding(filename, 1, 1, SYNTAX.id, f"not Python: {error}: {SYNTAX.instead}")]
    except (RecursionError, MemoryError):  # the parser says MemoryError when its stack is full
        return [Finding(filename, 1, 1, SYNTAX.id, "too deeply nested to be read: split the expression")]
    lines = NEWLINE.split(source)
    ignored = _ignored(lines)
    found: dict[tuple[int, int, str], Finding] = {}
    for hit, where in places:
        if not _is_ignored(hit, ignored):
            place = (hit.node.lineno, hit.node.col_offset, hit.rule.id)
            found.setdefault(place, _finding(hit, where, filename, lines, ignored))
    return sorted(found.values())


def _read(tree: ast.Module) -> Iterator[tuple[Hit, str]]:
    """Every hit, with the place in words."""
    origins = Origins(read_names(tree))
    steps = imported_steps(origins)
    seen: set[ast.AST | Made] = set()
    for root in _workflows(origins):
        workflow = f"workflow {_label(root)}"
        todo: list[FunctionNode | Made] = [root]
        while todo:
            node = todo.pop(0)
            if node in seen:
                continue
            seen.add(node)
            where = workflow if node is root else f"{_qualified(node, origins)} (used by {workflow})"
            calls = CallReader(origins, steps)
            for reader in (calls, OrderReader(origins), StateReader(origins), FlowReader(origins)):
                if isinstance(node, Made):
                    reader.read_factories(node)
                else:
                    reader.read(node)
                yield from ((hit, where) for hit in reader.hits)
            seen |= calls.seen
            todo += calls.reached
            if isinstance(node, Made):
                todo += _constructors(node.cls, origins)


def _workflows(origins: Origins) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Functions decorated with ``@workflow``, and those given to ``workflow(…)``, in the order of the lines."""
    found = [each for each in origins.names.scopes if isinstance(each, FUNCTIONS) and origins.kind(each) == "workflow"]
    for scope, call in origins.names.calls:
        decorator = call.func
        if call.args and origins.decorates(decorator, scope) == "workflow":
            function = origins.function(call.args[0], scope)
            if isinstance(function, FUNCTIONS):
                found.append(function)
    return sorted(set(found), key=lambda each: (each.lineno, each.col_offset))


def _constructors(node: ast.ClassDef, origins: Origins) -> Iterator[FunctionNode]:
    """What runs when an instance is made: constructors, and the validators of a pydantic model."""
    for name in CONSTRUCTORS:
        if found := origins.member(node, name):
            yield found
    for statement in node.body:
        if isinstance(statement, FUNCTIONS) and any("validator" in ast.unparse(d) for d in statement.decorator_list):
            yield statement


def _label(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """The name of a workflow: its own, or the one that its decorator gives it."""
    for decorator in node.decorator_list:
        for keyword in decorator.keywords if isinstance(decorator, ast.Call) else ():
            if keyword.arg == "name" and isinstance(keyword.value, ast.Constant):
                return str(keyword.value.value)
    return node.name


def _qualified(node: FunctionNode | Made, origins: Origins) -> str:
    if isinstance(node, Made):
        return node.cls.name
    if isinstance(node, ast.Lambda):
        return "a lambda"
    parent = origins.names.scopes[node].parent
    outer = f"{parent.node.name}." if parent and isinstance(parent.node, ast.ClassDef) else ""
    return f"{outer}{node.name}"


def _finding(hit: Hit, where: str, filename: str, lines: list[str], ignored: Ignored) -> Finding:
    line = lines[hit.node.lineno - 1] if hit.node.lineno <= len(lines) else ""
    column = len(line.encode()[: hit.node.col_offset].decode(errors="replace")) + 1
    message = f"{hit.what} in {where} {hit.rule.why}: {hit.instead or hit.rule.instead}"
    if hit.rule.id in ignored.get(hit.node.lineno, ((), False))[0]:
        message += f" (to ignore it, give the reason after ignore[{hit.rule.id}])"
    return Finding(filename, hit.node.lineno, column, hit.rule.id, message, hit.severity or hit.rule.severity)


def _ignored(lines: list[str]) -> Ignored:
    """The ignore comments. Tokens are read only where there may be one: they are slow."""
    found: Ignored = {}
    if not any(IGNORE.search(line) for line in lines):
        return found
    for token in tokenize.generate_tokens(io.StringIO("\n".join(lines)).readline):
        if token.type == tokenize.COMMENT and (match := IGNORE.search(token.string)):
            found[token.start[0]] = ({each.strip() for each in match[1].split(",")}, bool(match[2].strip()))
    return found


def _is_ignored(hit: Hit, ignored: Ignored) -> bool:
    """The comment stands on the line where the code begins; for an expression also where it ends."""
    lines = {hit.node.lineno, hit.node.end_lineno} if isinstance(hit.node, ast.expr) else {hit.node.lineno}
    comments = (ignored[line] for line in lines if line in ignored)
    return any(hit.rule.id in named and reason for named, reason in comments)
