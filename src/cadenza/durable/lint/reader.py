"""What the readers of workflow code share: they walk through one function and know the scope at every place."""

from __future__ import annotations

import ast
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass

from cadenza.durable.lint.names import COMPREHENSIONS, FUNCTIONS, FunctionNode, Origin, Scope, defaults, elements
from cadenza.durable.lint.origins import Origins
from cadenza.durable.lint.rules import Rule, Severity

TEXT_MAX = 40
RUNS_A_STEP = {"step", "compensate", "run", "start"}


@dataclass(frozen=True, slots=True)
class Hit:
    """Code that breaks a rule.

    Attributes:
        what: names the code.
        instead: what to use, where the rule's own advice is not precise.
        severity: where it is not the rule's own.
    """

    node: ast.expr | ast.stmt | ast.ExceptHandler
    rule: Rule
    what: str
    instead: str = ""
    severity: Severity | None = None


@dataclass(frozen=True)
class Made:
    """An instance of a class of this module that the code makes, and the fields that it gives a value."""

    cls: ast.ClassDef
    given: frozenset[str]


class Reader:
    """Reads the code that runs when a function is called: its body, lambdas and inner functions, but no inner steps.

    A reader of its own kind overrides ``look``, which is called with every node before the nodes inside of it.

    Attributes:
        scope: what the node under ``look`` stands in.
        hits: what was found.
        seen: the functions and classes that were read.
    """

    def __init__(self, origins: Origins) -> None:
        self.origins = origins
        self.scope = origins.names.module
        self.hits: list[Hit] = []
        self.seen: set[ast.AST] = set()

    def look(self, node: ast.AST) -> None:
        """Judge one node."""

    def read(self, node: FunctionNode) -> None:
        """Read a function, with its default values."""
        with self.inside(self.origins.names.scopes[node].parent or self.scope):
            self._function(node)

    def read_factories(self, made: Made) -> None:
        """Read what a new instance computes for the fields that it is not given: ``field(default_factory=…)``."""
        with self.inside(self.origins.names.scopes[made.cls]):
            for field, value in fields(made.cls):
                for keyword in value.keywords if isinstance(value, ast.Call) and field not in made.given else ():
                    if keyword.arg == "default_factory":
                        self.handed_over(keyword.value)
                        self.walk([keyword.value])

    def handed_over(self, node: ast.expr) -> None:
        """Judge what is given to something that will call it."""

    def of(self, node: ast.expr) -> Origin | None:
        return self.origins.of(node, self.scope)

    @contextmanager
    def inside(self, scope: Scope) -> Generator[None, None, None]:
        outer, self.scope = self.scope, scope
        yield
        self.scope = outer

    def walk(self, nodes: Iterable[ast.AST]) -> None:
        """Look at the nodes and at all that runs inside of them. Annotations and decorators do not run."""
        for node in nodes:
            self.look(node)
            if isinstance(node, (*FUNCTIONS, ast.Lambda)):
                if self.origins.kind(node) is None:
                    self._function(node)
            elif isinstance(node, ast.ClassDef):
                self.seen.add(node)
                with self.inside(self.origins.names.scopes[node]):
                    self.walk(node.body)
            elif isinstance(node, COMPREHENSIONS):
                first, *others = node.generators
                self.walk([first.iter])
                with self.inside(self.origins.names.scopes[node]):
                    self.walk([first.target, *first.ifs, *others, *elements(node)])
            elif isinstance(node, ast.Call):
                self.walk([node.func, *self._evaluated_here(node)])
            elif isinstance(node, ast.AnnAssign):
                self.walk([node.target, *([node.value] if node.value else [])])
            else:
                self.walk(ast.iter_child_nodes(node))

    def _evaluated_here(self, node: ast.Call) -> list[ast.expr]:
        """The arguments of a call, without the functions that the engine will run as steps."""
        given = [*node.args, *(each.value for each in node.keywords)]
        by_context = self.origins.context_method(node, self.scope)
        if by_context in RUNS_A_STEP or self.origins.decorates(node.func, self.scope):
            return [each for each in given if self.origins.function(each, self.scope) is None]
        return given

    def _function(self, node: FunctionNode) -> None:
        self.seen.add(node)
        self.walk(defaults(node))
        with self.inside(self.origins.names.scopes[node]):
            self.walk([node.body] if isinstance(node, ast.Lambda) else node.body)


def fields(cls: ast.ClassDef) -> list[tuple[str, ast.expr | None]]:
    """The annotated attributes of a class, with their default values."""
    return [
        (each.target.id, each.value)
        for each in cls.body
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
    ]


def text(node: ast.AST) -> str:
    """The code itself, shortened."""
    code = " ".join(ast.unparse(node).split())
    return code if len(code) <= TEXT_MAX else code[: TEXT_MAX - 1] + "…"
