"""Finds calls and values that differ between a run and its replay, and the functions that the code goes on to."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable

from cadenza.durable.lint import rules
from cadenza.durable.lint.names import COMPREHENSIONS, FUNCTIONS, FunctionNode, Origin, Scope, elements
from cadenza.durable.lint.origins import Origins
from cadenza.durable.lint.reader import Hit, Made, Reader, fields, text
from cadenza.durable.lint.rules import Severity, Target
from cadenza.durable.lint.values import CONTEXT, COROUTINE

MADE_A_STEP = re.compile(r"cadenza\.(\w+\.)*(step|agent)(\(\)){1,2}")  # charge = step(effect="read")(function)
PLAIN_VALUES = {f"builtins.{name}" for name in ("int", "float", "str", "bool")}


class CallReader(Reader):
    """Rules CDZ001 to CDZ008, CDZ010, CDZ012, CDZ014 and CDZ016.

    Attributes:
        reached: the functions of this module that the code uses, and the instances it makes.
    """

    def __init__(self, origins: Origins, imported_steps: frozenset[str]) -> None:
        super().__init__(origins)
        self.imported_steps = imported_steps
        self.reached: list[FunctionNode | Made] = []
        self._constants: set[str] = set()
        self._first_time_only: set[ast.AST] = set()

    def found(self, node: ast.expr, target: Target, what: str, severity: Severity | None = None) -> None:
        if target.rule is not rules.PRINT or node not in self._first_time_only:
            self.hits.append(Hit(node, target.rule, what, target.instead, severity))

    def look(self, node: ast.AST) -> None:
        match node:
            case ast.Name(ctx=ast.Load()):
                self._refers(node)
                if self.scope.owner(node.id) is self.scope.module:
                    self._constant(node)
            case ast.Attribute():
                self._refers(node)
            case ast.Call():
                self._call(node)
            case ast.If() if any(
                isinstance(each, ast.Attribute) and each.attr == "replaying" for each in ast.walk(node.test)
            ):
                self._first_time_only.update(ast.walk(node))
            case _:
                pass

    # --- values ---------------------------------------------------------------------------------------------------

    def _refers(self, node: ast.Name | ast.Attribute) -> None:
        origin = self.of(node)
        if isinstance(origin, (*FUNCTIONS, ast.Lambda)):
            if self.origins.kind(origin) is None:
                self.reached.append(origin)
        elif isinstance(origin, str) and origin in rules.VALUES:
            self.found(node, rules.VALUES[origin], origin)

    def _constant(self, node: ast.Name) -> None:
        """A module-level name whose value was computed when this process imported the module."""
        bindings = self.scope.module.bindings[node.id]
        value = bindings[0].value
        if node.id in self._constants or len(bindings) > 1 or value is None:
            return
        target = self._computed(value, self.scope.module)
        if target is not None:
            self._constants.add(node.id)
            severity = "warning" if target.rule is rules.ENVIRONMENT else None
            self.found(node, target, f"the constant {node.id} = {text(value)}", severity)

    def _computed(self, node: ast.expr, scope: Scope) -> Target | None:
        """The clock, randomness or environment that a plain value is made from."""
        match node:
            case ast.Call(func=function, args=args):
                origin = self.origins.of(function, scope)
                target = rules.target_of(origin) if isinstance(origin, str) and _is_function(origin) else None
                if target is not None and target.rule in (rules.CLOCK, rules.RANDOM, rules.ENVIRONMENT):
                    return None if _is_free(target, node) else target
                if origin in PLAIN_VALUES and args:
                    return self._computed(args[0], scope)
                return self._computed(function.value, scope) if isinstance(function, ast.Attribute) else None
            case ast.Subscript(value=value):
                return self._computed(value, scope)
            case ast.BoolOp(values=values):
                return next((target for each in values if (target := self._computed(each, scope))), None)
            case ast.Attribute(value=value):
                origin = self.origins.of(node, scope)
                return rules.VALUES.get(origin) if isinstance(origin, str) else self._computed(value, scope)
            case ast.Name():
                origin = self.origins.of(node, scope)
                return rules.VALUES.get(origin) if isinstance(origin, str) else None
            case _:
                return None

    # --- calls ----------------------------------------------------------------------------------------------------

    def _call(self, node: ast.Call) -> None:
        origin = self.of(node.func)
        before = len(self.hits)
        match origin:
            case ast.ClassDef():
                self.reached.append(Made(origin, _given(node, origin)))
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                self._direct(node, node.func)
            case str():
                self._outside(node, origin)
            case _:
                self._unknown(node)
        if len(self.hits) == before and not self.origins.context_method(node, self.scope):
            for each in (*node.args, *(keyword.value for keyword in node.keywords)):
                self.handed_over(each)

    def handed_over(self, node: ast.expr) -> None:
        origin = self.of(node) if isinstance(node, ast.Name | ast.Attribute) else None
        target = rules.target_of(origin) if isinstance(origin, str) and _is_function(origin) else None
        if target is not None and not target.free_with:
            self.found(node, target, text(node))

    def _outside(self, node: ast.Call, origin: str) -> None:
        if origin in self.imported_steps or (isinstance(node.func, ast.Name) and MADE_A_STEP.fullmatch(origin)):
            self._not_journaled(node, text(node.func), "step")
        elif origin == "builtins.map" and node.args:
            self._direct(node, node.args[0])
        elif origin == "asyncio.as_completed" and node.args and self._has_coroutines(node.args[0], self.scope):
            self.hits.append(Hit(node, rules.AS_COMPLETED, "asyncio.as_completed() of coroutines"))
        elif (loop := next((each for each in rules.LOOPS if origin.startswith(f"{each}.")), "")) and (
            method := origin.removeprefix(f"{loop}.")
        ) not in rules.LOOP_METHODS:
            rule = rules.OWN_LOOP if method.startswith("run_") and method != "run_in_executor" else rules.THREADS
            self.found(node, Target(rule), f"loop.{method}()")
        elif (target := rules.target_of(origin)) and not _is_free(target, node) and self._is_live(node, origin, target):
            self.found(node, target, f"{text(node.func) if '()' in origin else _written(origin)}()")

    def _is_live(self, node: ast.Call, origin: str, target: Target) -> bool:
        """For a method of an I/O object: is this the place to report? Not if the code that made it is reported."""
        if "()" not in origin or origin in rules.CALLS:
            return True
        root = node.func
        while isinstance(root, ast.Attribute):
            root = root.value
        owner = self.scope.owner(root.id) if isinstance(root, ast.Name) else None
        if not isinstance(root, ast.Name) or owner is None:
            return False
        is_parameter = owner.bindings[root.id][0].parameter
        return owner is self.scope.module or (is_parameter and target.rule is rules.IO)

    def _unknown(self, node: ast.Call) -> None:
        match node.func:
            case ast.Attribute(value=value, attr=method) if method in rules.METHODS and self.of(value) is None:
                defined = any(isinstance(each, FUNCTIONS) and each.name == method for each in self.origins.names.scopes)
                target = rules.METHODS[method]
                if not defined:
                    self.found(node, target, f"{text(node.func)}()", "warning" if target.rule is rules.IO else None)
            case ast.Call():  # charge.options(timeout_s=5)(order)
                self._direct(node, node.func)
            case _:
                pass

    def _direct(self, node: ast.Call, function: ast.expr) -> None:
        found = self.origins.function(function, self.scope)
        kind = self.origins.kind(found) if found is not None else None
        if kind in ("step", "agent"):
            self._not_journaled(node, text(function), kind)

    def _not_journaled(self, node: ast.Call, name: str, kind: str) -> None:
        instead = f"use await ctx.step({name}, ...)" if kind == "step" else f"use await ctx.call({name}, input)"
        self.hits.append(Hit(node, rules.DIRECT_CALL, f"the {kind} {name}", instead))

    def _has_coroutines(self, node: ast.expr, scope: Scope) -> bool:
        """Does the collection hold coroutines that nobody has made tasks of?"""
        match node:
            case ast.List() | ast.Tuple() | ast.Set():
                return any(self._is_coroutine(each, scope) for each in node.elts)
            case ast.Call(func=ast.Name(id="map" | "list" | "set" | "tuple"), args=[first, *_]):
                mapped = isinstance(self.origins.of(first, scope), ast.AsyncFunctionDef)
                return mapped or self._has_coroutines(first, scope)
            case ast.Name():
                owner = scope.owner(node.id)
                values = [each.value for each in owner.bindings[node.id] if each.value] if owner else []
                return owner is not None and any(
                    self._has_coroutines(each, owner) for each in values if not isinstance(each, ast.Name)
                )
            case _ if isinstance(node, COMPREHENSIONS):
                return any(self._is_coroutine(each, self.origins.names.scopes[node]) for each in elements(node))
            case _:
                return False

    def _is_coroutine(self, node: ast.expr, scope: Scope) -> bool:
        if not isinstance(node, ast.Call):
            return False
        if isinstance(node.func, ast.Attribute) and node.func.attr == "result":  # of a child run's handle
            return True
        origin = self.origins.of(node, scope)
        if origin in (COROUTINE, "asyncio.sleep()", f"{CONTEXT}.shield()") or origin in {
            f"{each}()" for each in rules.PATTERNS
        }:
            return True
        imported = isinstance(origin, str) and not origin.startswith(("asyncio.", CONTEXT))
        return imported and any(self.origins.of(each, scope) == CONTEXT for each in node.args)


def imported_steps(origins: Origins) -> frozenset[str]:
    """Origins of the imported functions that the module gives to ``ctx.step``: they are steps."""
    found: set[Origin | None] = set()
    for scope, call in origins.names.calls:
        if call.args and origins.context_method(call, scope) == "step":
            first = call.args[0]
            if isinstance(first, ast.Call) and isinstance(first.func, ast.Attribute) and first.func.attr == "options":
                first = first.func.value
            found.add(origins.of(first, scope))
    return frozenset(each for each in found if isinstance(each, str))


def _given(node: ast.Call, cls: ast.ClassDef) -> frozenset[str]:
    """The fields that a call of a class gives a value; all of them if that cannot be told."""
    names = [name for name, _ in fields(cls)]
    if any(isinstance(each, ast.Starred) for each in node.args) or any(each.arg is None for each in node.keywords):
        return frozenset(names)
    return frozenset([*names[: len(node.args)], *(each.arg for each in node.keywords if each.arg)])


def _is_function(origin: str) -> bool:
    """Not a class, which may also be given as a type or an exception, and not a method of some object."""
    return "()" not in origin and origin.rpartition(".")[2][:1].islower()


def _written(origin: str) -> str:
    return origin.removeprefix("builtins.")


def _is_free(target: Target, node: ast.Call) -> bool:
    """Is the call harmless because of what it is given (``Random(seed)``)?"""
    return bool(target.free_with) and _count([*node.args, *(each.value for each in node.keywords)]) >= target.free_with


def _count(given: Iterable[ast.expr]) -> int:
    return sum(not (isinstance(each, ast.Constant) and each.value is None) for each in given)
