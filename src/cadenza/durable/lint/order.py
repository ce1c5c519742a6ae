"""Finds code that takes the order of a set, which differs between processes."""

from __future__ import annotations

import ast

from cadenza.durable.lint.flow import has_await
from cadenza.durable.lint.names import COMPREHENSIONS, Comprehension, elements
from cadenza.durable.lint.origins import SET, Origins
from cadenza.durable.lint.reader import Hit, Reader, text
from cadenza.durable.lint.rules import ORDER_FREE, ORDERED_BY_INPUT, ORDERED_METHODS, PATTERNS, SET_ORDER

PASSES_ORDER_ON = {"builtins.list", "builtins.tuple", "builtins.iter", "builtins.map", "builtins.filter"}


class OrderReader(Reader):
    """Rule CDZ009."""

    def __init__(self, origins: Origins) -> None:
        super().__init__(origins)
        self._free: set[ast.expr] = set()  # what is handed to sorted() and the like

    def look(self, node: ast.AST) -> None:
        match node:
            case ast.For(iter=value) | ast.YieldFrom(value=value) | ast.FormattedValue(value=value):
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
        if not is_free or has_await([*elements(node), *tests]):
            self._takes_order(node.generators[0].iter)
            with self.inside(self.origins.names.scopes[node]):
                self._takes_order(*(generator.iter for generator in node.generators[1:]))

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
