"""Finds control flow that the engine cannot live with: swallowed cancellation, loops that never yield."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from cadenza.durable.lint.origins import Origins
from cadenza.durable.lint.reader import Hit, Reader, text
from cadenza.durable.lint.rules import ENDLESS, SWALLOW

SIGNALS = {"builtins.BaseException", "builtins.BaseExceptionGroup"}

_INNER = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_LOOPS = (ast.For, ast.AsyncFor, ast.While)
_SUSPENDS = (ast.Await, ast.AsyncFor, ast.AsyncWith, ast.Yield, ast.YieldFrom)


class FlowReader(Reader):
    """Rules CDZ013 and CDZ015."""

    def __init__(self, origins: Origins) -> None:
        super().__init__(origins)
        self._in_try: set[ast.AST] = set()

    def look(self, node: ast.AST) -> None:
        if isinstance(node, ast.Try | ast.TryStar) and node.handlers:
            self._in_try.update(_own_nodes(node.body))  # an exception is a way out of a loop
        match node:
            case ast.Try() | ast.TryStar() if has_await(node.body) or _continues_as_new(node.body):
                self._try(node)
            case ast.With() | ast.AsyncWith() if has_await(node.body):
                for item in node.items:
                    self._suppress(item.context_expr)
            case ast.While() if node not in self._in_try and never_yields(node):
                self.hits.append(Hit(node, ENDLESS, f"'while {text(node.test)}'"))
            case _:
                pass

    def _try(self, node: ast.Try | ast.TryStar) -> None:
        for handler in node.handlers:
            if caught := self._catches(handler.type):
                if not raises_again(handler):
                    self.hits.append(Hit(handler, SWALLOW, f"'{caught}'"))
                break
        if (leave := returns(node.finalbody)) is not None:
            self.hits.append(Hit(leave, SWALLOW, "'return' in 'finally'", "return after the try statement"))

    def _suppress(self, node: ast.expr) -> None:
        if not isinstance(node, ast.Call) or self.of(node.func) != "contextlib.suppress":
            return
        if any(self._is_signal(each) for each in node.args):
            self.hits.append(Hit(node, SWALLOW, f"'{text(node)}'", "suppress only exceptions that you expect"))

    def _catches(self, caught: ast.expr | None) -> str:
        """How a handler that catches everything is written; empty if it does not."""
        if caught is None:
            return "except:"
        parts = caught.elts if isinstance(caught, ast.Tuple) else [caught]
        return next((f"except {ast.unparse(each)}" for each in parts if self._is_signal(each)), "")

    def _is_signal(self, node: ast.expr) -> bool:
        return self.of(node) in SIGNALS


def has_await(parts: Iterable[ast.AST]) -> bool:
    """Can the code give way to the loop? What inner functions do when somebody calls them is not counted."""
    return any(
        isinstance(node, _SUSPENDS) or (isinstance(node, ast.comprehension) and node.is_async)
        for node in _own_nodes(parts)
    )


def _continues_as_new(parts: Iterable[ast.AST]) -> bool:
    """``ctx.continue_as_new`` ends the run by an exception."""
    return any(isinstance(node, ast.Attribute) and node.attr == "continue_as_new" for node in _own_nodes(parts))


def never_yields(loop: ast.While) -> bool:
    """Does the loop run for ever without an await: ``while True`` with no way out, or ``while waiting: pass``?"""
    if has_await([loop.test, *loop.body]):
        return False
    if not (isinstance(loop.test, ast.Constant) and loop.test.value):
        idle = all(isinstance(each, ast.Pass | ast.Continue) for each in loop.body)
        return idle and not any(isinstance(node, ast.Call | ast.NamedExpr) for node in ast.walk(loop.test))
    leaves = any(isinstance(node, ast.Return | ast.Raise) for node in _own_nodes(loop.body))
    return not leaves and not any(isinstance(node, ast.Break) for node in _own_nodes(loop.body, beside_loops=True))


def raises_again(handler: ast.ExceptHandler) -> bool:
    """Does the handler let the exception it caught go on: ``raise``, or ``raise error`` of the same name?"""
    return any(
        isinstance(node, ast.Raise)
        and (node.exc is None or (isinstance(node.exc, ast.Name) and node.exc.id == handler.name))
        for node in _own_nodes(handler.body)
    )


def returns(parts: Iterable[ast.AST]) -> ast.Return | None:
    """A ``return`` of this function in the code."""
    return next((node for node in _own_nodes(parts) if isinstance(node, ast.Return)), None)


def _own_nodes(parts: Iterable[ast.AST], *, beside_loops: bool = False) -> Iterator[ast.AST]:
    """Every node that runs in this function itself; ``beside_loops`` leaves out the bodies of inner loops."""
    todo = list(parts)
    while todo:
        node = todo.pop()
        if isinstance(node, _INNER):
            continue
        yield node
        todo += node.orelse if beside_loops and isinstance(node, _LOOPS) else ast.iter_child_nodes(node)
