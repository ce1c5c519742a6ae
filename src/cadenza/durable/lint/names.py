"""Who owns a name in one module, and where the value of an expression comes from. Read from the syntax, never run.

An *origin* is a dotted name for what comes from outside of the module (``time.time``; ``httpx.Client()`` for a value
made by a call, ``httpx.Client().get`` for its attribute), or the function or class of this module. None means unknown,
and unknown is never a finding.
"""

# ruff: noqa: N815 - methods are named as ast.NodeVisitor wants them

from __future__ import annotations

import ast
import builtins
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

FunctionNode: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
Comprehension: TypeAlias = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp

COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Instance:
    """A value made by a class of this module."""

    cls: ast.ClassDef


Origin: TypeAlias = str | FunctionNode | ast.ClassDef | Instance


@dataclass(frozen=True, eq=False)
class Binding:
    """One place where a name gets a value. What is known about the value is in ``origin``, ``value``, ``annotation``.

    Attributes:
        end: line and column (bytes) from which on the name has this value.
        parameter: is it the parameter of a function?
    """

    end: tuple[int, int]
    origin: Origin | None = None
    value: ast.expr | None = None
    annotation: ast.expr | None = None
    parameter: bool = False


class Scope:
    """The names that a module, class, function, lambda or comprehension binds."""

    def __init__(self, node: ast.AST, parent: Scope | None) -> None:
        self.node = node
        self.parent = parent
        self.module: Scope = parent.module if parent else self
        self.bindings: dict[str, list[Binding]] = {}
        self.globals: set[str] = set()
        self.nonlocals: set[str] = set()

    @property
    def frame(self) -> Scope:
        """This scope, or what a comprehension stands in."""
        scope = self
        while isinstance(scope.node, COMPREHENSIONS) and scope.parent:
            scope = scope.parent
        return scope

    def owner(self, name: str) -> Scope | None:
        """The scope that binds ``name`` as code in this scope sees it; None for builtins and unknown names."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.globals:
                return self.module if name in self.module.bindings else None
            visible = scope is self or not isinstance(scope.node, ast.ClassDef)
            if visible and name in scope.bindings and name not in scope.nonlocals:
                return scope
            scope = scope.parent
        return None


@dataclass(frozen=True)
class Names:
    """All scopes of a module.

    Attributes:
        scopes: by the node that opens them.
        stars: modules of ``from … import *``.
        calls: every call, with the scope it stands in.
    """

    module: Scope
    scopes: dict[ast.AST, Scope]
    stars: list[str]
    calls: list[tuple[Scope, ast.Call]]


def read_names(tree: ast.Module) -> Names:
    """The scopes of ``tree``."""
    reader = _Reader(tree)
    reader.visit(tree)
    return Names(reader.scope, reader.scopes, reader.stars, reader.calls)


def is_builtin(name: str) -> bool:
    return hasattr(builtins, name)


class _Reader(ast.NodeVisitor):
    def __init__(self, tree: ast.Module) -> None:
        self.scope = Scope(tree, None)
        self.scopes: dict[ast.AST, Scope] = {tree: self.scope}
        self.stars: list[str] = []
        self.calls: list[tuple[Scope, ast.Call]] = []

    @contextmanager
    def inside(self, node: ast.AST) -> Generator[None, None, None]:
        outer = self.scope
        self.scope = self.scopes[node] = Scope(node, outer)
        yield
        self.scope = outer

    def bind(self, name: str, binding: Binding, scope: Scope | None = None) -> None:
        scope = scope or self.scope
        if name in scope.globals:
            scope = scope.module
        elif name in scope.nonlocals and scope.parent:
            scope = scope.parent.owner(name) or scope
        scope.bindings.setdefault(name, []).append(binding)

    def assign(self, target: ast.expr, value: ast.expr, end: tuple[int, int]) -> None:
        match target, value:
            case ast.Name(), _:
                self.bind(target.id, Binding(end, value=value))
            case ((ast.Tuple() | ast.List()), (ast.Tuple() | ast.List())) if len(target.elts) == len(value.elts):
                for each, its_value in zip(target.elts, value.elts, strict=True):
                    self.assign(each, its_value, end)
            case _:
                self.visit(target)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            root = alias.name.partition(".")[0]
            self.bind(alias.asname or root, Binding(_start(node), origin=alias.name if alias.asname else root))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        source = "." * node.level + (node.module or "")
        for alias in node.names:
            if alias.name == "*":
                self.stars.append(source)
            else:
                self.bind(alias.asname or alias.name, Binding(_start(node), origin=f"{source}.{alias.name}"))

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.bind(node.name, Binding(_start(node), origin=node))
        for outer in (*node.decorator_list, *defaults(node)):
            self.visit(outer)
        kind = {each.id for each in node.decorator_list if isinstance(each, ast.Name)}
        cls = self.scope.node
        with self.inside(node):
            for index, parameter in enumerate(parameters(node)):
                origin: Origin | None = None
                if index == 0 and isinstance(cls, ast.ClassDef) and "staticmethod" not in kind:
                    origin = cls if "classmethod" in kind else Instance(cls)
                star = parameter in (node.args.vararg, node.args.kwarg)  # its annotation is that of one element
                annotation = None if star else parameter.annotation
                self.bind(parameter.arg, Binding(_start(parameter), origin, None, annotation, parameter=True))
            for statement in node.body:
                self.visit(statement)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> None:
        for outer in defaults(node):
            self.visit(outer)
        with self.inside(node):
            for parameter in parameters(node):
                self.bind(parameter.arg, Binding(_start(parameter), parameter=True))
            self.visit(node.body)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.bind(node.name, Binding(_start(node), origin=node))
        for outer in (*node.decorator_list, *node.bases, *node.keywords):
            self.visit(outer)
        with self.inside(node):
            for statement in node.body:
                self.visit(statement)

    def visit_ListComp(self, node: Comprehension) -> None:
        self.visit(node.generators[0].iter)
        with self.inside(node):
            for index, generator in enumerate(node.generators):
                for part in (generator.target, *generator.ifs, *([generator.iter] if index else [])):
                    self.visit(part)
            for part in elements(node):
                self.visit(part)

    visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_ListComp

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        for target in node.targets:
            self.assign(target, node.value, _end(node))

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)
        if isinstance(node.target, ast.Name):
            self.bind(node.target.id, Binding(_end(node), value=node.value, annotation=node.annotation))
        else:
            self.visit(node.target)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.visit(node.value)
        if not isinstance(node.target, ast.Name):
            self.visit(node.target)
        elif node.target.id not in self.scope.bindings | dict.fromkeys(self.scope.globals | self.scope.nonlocals):
            self.bind(node.target.id, Binding(_end(node)))

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        self.bind(node.target.id, Binding(_end(node), value=node.value), self.scope.frame)

    def visit_Name(self, node: ast.Name) -> None:
        if not isinstance(node.ctx, ast.Load):
            self.bind(node.id, Binding(_end(node)))

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.name:
            self.bind(node.name, Binding(_start(node)))
        self.generic_visit(node)

    def visit_MatchAs(self, node: ast.MatchAs | ast.MatchStar) -> None:
        if node.name:
            self.bind(node.name, Binding(_end(node)))
        self.generic_visit(node)

    visit_MatchStar = visit_MatchAs

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        if node.rest:
            self.bind(node.rest, Binding(_end(node)))
        self.generic_visit(node)

    def visit_Global(self, node: ast.Global) -> None:
        self.scope.globals.update(node.names)

    def visit_Nonlocal(self, node: ast.Nonlocal) -> None:
        self.scope.nonlocals.update(node.names)

    def visit_Call(self, node: ast.Call) -> None:
        self.calls.append((self.scope, node))
        self.generic_visit(node)


def parameters(node: FunctionNode) -> list[ast.arg]:
    """The parameters, in the order of a call."""
    args = node.args
    stars = [each for each in (args.vararg, args.kwarg) if each]
    return [*args.posonlyargs, *args.args, *args.kwonlyargs, *stars]


def defaults(node: FunctionNode) -> list[ast.expr]:
    """The default values of the parameters."""
    return [*node.args.defaults, *(each for each in node.args.kw_defaults if each)]


def elements(node: Comprehension) -> list[ast.expr]:
    """What a comprehension yields."""
    return [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]


def _start(node: ast.stmt | ast.expr | ast.arg | ast.ExceptHandler) -> tuple[int, int]:
    return node.lineno, node.col_offset


def _end(node: ast.stmt | ast.expr | ast.pattern) -> tuple[int, int]:
    return node.end_lineno or 0, node.end_col_offset or 0
