"""Finds writes to the state of the module, which all runs of a process share."""

from __future__ import annotations

import ast

from cadenza.durable.lint.reader import Hit, Reader, text
from cadenza.durable.lint.rules import CONTAINERS, COUNTERS, GLOBALS, MUTATORS, VALUES

PASSES_ON = {"get"}  # CACHE.get(key).append(…) changes CACHE


class StateReader(Reader):
    """Rule CDZ011."""

    def look(self, node: ast.AST) -> None:
        match node:
            case ast.Name(ctx=ast.Store() | ast.Del()) if node.id in self.scope.frame.globals:
                self._found(node, f"the assignment to the global {node.id}")
            case ast.Attribute() | ast.Subscript() if isinstance(node.ctx, ast.Store | ast.Del):
                if self._root(node.value) is not None and self.of(node.value) not in VALUES:
                    self._found(node, f"the change of {text(node)}")
            case ast.Call(func=ast.Attribute(value=receiver, attr=method)) if method in MUTATORS:
                root = self._root(receiver)
                if root is not None and self.of(root) in CONTAINERS:
                    self._found(node, f"{text(node.func)}()")
            case ast.Call(func=ast.Name(id="next"), args=[ast.Name() as given, *_]) if self.of(given) in COUNTERS:
                if self._root(given) is not None:
                    self._found(node, text(node))
            case _:
                pass

    def _found(self, node: ast.expr, what: str) -> None:
        self.hits.append(Hit(node, GLOBALS, what))

    def _root(self, node: ast.expr) -> ast.Name | None:
        """The module's own name at the left end of ``NAME.attribute[key].get(…)``."""
        match node:
            case ast.Name():
                return node if self.scope.owner(node.id) is self.scope.module else None
            case ast.Attribute(value=value) | ast.Subscript(value=value):
                return self._root(value)
            case ast.Call(func=ast.Attribute(value=value, attr=method)) if method in PASSES_ON:
                return self._root(value)
            case _:
                return None
