"""Finds code that takes the order of a set, which differs between processes."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from cadenza.durable.lint.flow import has_await
from cadenza.durable.lint.names import COMPREHENSIONS, Comprehension, elements
from cadenza.durable.lint.origins import Origins
from cadenza.durable.lint.reader import Hit, Reader, text
from cadenza.durable.lint.rules import ORDER_FREE, ORDERED_BY_INPUT, ORDERED_METHODS, PATTERNS, SET_ORDER
from cadenza.durable.lint.values import SET

PASSES_ORDER_ON = {"builtins.list", "builtins.tuple", "builtins.iter", "builtins.map", "builtins.filter"}
TASK_METHODS = {"cancel", "cancelled", "done", "result", "exception", "add_done_callback"}


class OrderReader(Reader):
    """Rule CDZ009."""

    def __init__(self, origins: Origins) -> None:
        super().__init__(origins)
        self._free: set[ast.expr] = set()  # what is handed to sorted() and the like

    def look(self, node: ast.AST) -> None:
        match node:
            case ast.For() if not _are_tasks(node.target, node.body):
                self._takes_order(node.iter)
            case ast.YieldFrom(value=value) | ast.FormattedValue(value=value):
                self._takes_order(value)
            case ast.AugAssign(op=ast.Add(), value=value):
                self._takes_order(value)
            case ast.Assign(targets=targets, value=value) if any(_unpacks(target) for target in targets):
                self._takes_order(value)
            case ast.List(elts=parts) | ast.Tuple(elts=parts):
                self._stars(parts)
            case ast.Call():
                self._call(node)
            case _ if isinstance(node, COMPREHENSIONS):
                self._comprehension(node)
            case _:
                pass

    def _takes_order(self, *nodes: ast.expr) -> None:
        for node in nodes:
            if self.of(node) == SET:
                self.hits.append(Hit(node, SET_ORDER, f"the iteration over {text(node)}", f"use sorted({text(node)})"))

    def _stars(self, parts: list[ast.expr]) -> None:
        self._takes_order(*(part.value for part in parts if isinstance(part, ast.Starred)))

    def _comprehension(self, node: Comprehension) -> None:
        tests = [test for generator in node.generators for test in generator.ifs]
        is_free = isinstance(node, ast.SetComp) or node in self._free
        parts = [*elements(node), *tests]
        if not is_free or has_await(parts):
            first, *others = node.generators
            if not _are_tasks(first.target, parts):
                self._takes_order(first.iter)
            with self.inside(self.origins.names.scopes[node]):
                self._takes_order(*(each.iter for each in others if not _are_tasks(each.target, parts)))

    def _call(self, node: ast.Call) -> None:
        origin = self.of(node.func)
        name = origin if isinstance(origin, str) else ""
        if name in ORDER_FREE or name.startswith(f"{SET}.") or (node in self._free and name in PASSES_ORDER_ON):
            self._free.update(node.args)
        elif name in ORDERED_BY_INPUT or name.startswith("itertools."):
            self._takes_order(*node.args)
            self._stars(node.args)
        elif name in PATTERNS:
            self._takes_order(*node.args[1:2])
        elif isinstance(node.func, ast.Attribute) and node.func.attr in ORDERED_METHODS:
            self._takes_order(*node.args[:1])
        else:
            self._stars(node.args)
        if name == f"{SET}.pop":
            self.hits.append(Hit(node, SET_ORDER, f"{text(node)} of a set", "keep a list, or take the min(...)"))


def _unpacks(target: ast.expr) -> bool:
    """Does it give places to several values? ``[only] = names`` does not."""
    return isinstance(target, ast.Tuple | ast.List) and (
        len(target.elts) > 1 or any(isinstance(each, ast.Starred) for each in target.elts)
    )


def _are_tasks(target: ast.expr, parts: Sequence[ast.AST]) -> bool:
    """Does the code treat what it iterates over as tasks, which have an order: ``await task``, ``task.cancel()``?"""
    if not isinstance(target, ast.Name):
        return False
    for node in (each for part in parts for each in ast.walk(part)):
        match node:
            case ast.Await(value=ast.Name(id=name)) if name == target.id:
                return True
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=method)) if name == target.id:
                if method in TASK_METHODS:
                    return True
            case _:
                pass
    return False
