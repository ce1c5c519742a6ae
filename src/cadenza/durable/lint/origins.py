"""What an expression of a module stands for: follows imports, assignments, annotations, classes and decorators.

A name with several values stands for the last one above its use in the same function; seen from an inner function, for
the one that all its assignments agree on.
"""

from __future__ import annotations

import ast

from cadenza.durable.lint.names import (
    FUNCTIONS,
    Binding,
    FunctionNode,
    Instance,
    Names,
    Origin,
    Scope,
    is_builtin,
    parameters,
)
from cadenza.durable.lint.values import (
    CONTEXT,
    COROUTINE,
    PATH,
    SET,
    TASK_SET,
    TASKS,
    either,
    generic_class,
    is_view,
    same,
)

FOLLOWED_MAX = 40  # assignments from one name to the next
KINDS = ("workflow", "step", "agent")


class Origins:
    """Resolves the expressions of one module. ``scope`` is always the scope that the expression stands in."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self._open: set[Binding] = set()
        self._known: dict[Binding, Origin | None] = {}

    def of(self, node: ast.expr, scope: Scope) -> Origin | None:
        """Where the value of ``node`` comes from; None if that is not certain."""
        match node:
            case ast.Name():
                return self._name(node, scope)
            case ast.Attribute():
                return self._attribute(self.of(node.value, scope), node.attr)
            case ast.Call():
                return self._call(node, scope)
            case ast.Subscript():
                return generic_class(self.of(node.value, scope))
            case ast.Await():
                return self._awaited(node.value, scope)
            case ast.NamedExpr():
                return self.of(node.value, scope)
            case ast.IfExp():
                return either(self.of(node.body, scope), self.of(node.orelse, scope))
            case ast.BoolOp():
                first, *others = (self.of(each, scope) for each in node.values)
                for other in others:
                    first = either(first, other)
                return first
            case ast.BinOp():
                return self._operation(node, scope)
            case _:
                return self._literal(node, scope)

    def of_annotation(self, node: ast.expr | None, scope: Scope) -> Origin | None:
        """What a value with this annotation is."""
        match node:
            case ast.Constant(value=str(text)):
                try:
                    return self.of_annotation(ast.parse(text, mode="eval").body, scope)
                except SyntaxError:
                    return None
            case ast.BinOp(op=ast.BitOr()):
                found = [self.of_annotation(side, scope) for side in (node.left, node.right) if not _is_none(side)]
                return found[0] if len(set(found)) == 1 else None
            case ast.Subscript():
                return self._generic(node, scope)
            case ast.Name() | ast.Attribute():
                return self._instance(self.of(node, scope))
            case _:
                return None

    def kind(self, node: FunctionNode) -> str | None:
        """``workflow``, ``step`` or ``agent`` if a decorator of Cadenza says so."""
        if isinstance(node, ast.Lambda):
            return None
        scope = self.names.scopes[node].parent or self.names.module
        for decorator in node.decorator_list:
            if kind := self.decorates(decorator, scope):
                return kind
        return None

    def decorates(self, node: ast.expr, scope: Scope) -> str | None:
        """The kind that ``node`` makes of a function, if it is one of Cadenza's decorators, with options or without."""
        target = node.func if isinstance(node, ast.Call) else node
        if isinstance(target, ast.Name) and scope.owner(target.id) is None:
            return target.id if target.id in KINDS else None  # it can only come from an import of everything
        origin = self.of(target, scope)
        if isinstance(origin, str) and origin.startswith("cadenza.") and "()" not in origin:
            return next((kind for kind in KINDS if origin.endswith(f".{kind}")), None)
        return None

    def context_method(self, node: ast.Call, scope: Scope) -> str | None:
        """``step`` for ``ctx.step(…)``, and so on; also for ``self.ctx.step(…)``, whatever that is."""
        origin = self.of(node.func, scope)
        if isinstance(origin, str):
            return origin.removeprefix(f"{CONTEXT}.") if origin.startswith(f"{CONTEXT}.") else None
        if origin is None and isinstance(node.func, ast.Attribute):
            receiver = node.func.value
            name = receiver.attr if isinstance(receiver, ast.Attribute) else getattr(receiver, "id", "")
            return node.func.attr if name in ("ctx", "_ctx") else None
        return None

    def is_task(self, node: ast.expr, scope: Scope) -> bool:
        """Is it a task or a future: something that hashes by the order of its creation?"""
        match node:
            case ast.Name():
                owner = scope.owner(node.id)
                bindings = _candidates(node, scope, owner) if owner else []
                values = [each.value for each in bindings]
                return bool(values) and all(isinstance(each, ast.Call) and self.is_task(each, scope) for each in values)
            case ast.Call(func=ast.Attribute(attr="create_task" | "ensure_future")):
                return True
            case ast.Call():
                by_context = self.context_method(node, scope)
                return by_context not in (None, "shield") or self.of(node.func, scope) in (
                    "asyncio.create_task",
                    "asyncio.ensure_future",
                    "asyncio.gather",
                    "asyncio.shield",
                )
            case _:
                return False

    def holds_tasks(self, node: ast.expr, scope: Scope) -> bool:
        """Is it a collection of tasks?"""
        match node:
            case ast.Set() | ast.List() | ast.Tuple():
                return all(self.is_task(each, scope) for each in node.elts)
            case ast.SetComp() | ast.ListComp() | ast.GeneratorExp():
                return self.is_task(node.elt, self.names.scopes[node])
            case ast.Call(func=ast.Name(id="map"), args=[function, *_]):
                return self.of(function, scope) in ("asyncio.create_task", "asyncio.ensure_future")
            case ast.Name():
                owner = scope.owner(node.id)
                values = [each.value for each in _candidates(node, scope, owner)] if owner else []
                return bool(values) and all(
                    value is not None and not isinstance(value, ast.Name) and self.holds_tasks(value, scope)
                    for value in values
                )
            case _:
                return False

    def function(self, node: ast.expr, scope: Scope) -> FunctionNode | None:
        """The function of this module that ``node`` refers to; also ``charge.options(…)``."""
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "options":
            node = node.func.value
        origin = self.of(node, scope)
        return origin if isinstance(origin, (*FUNCTIONS, ast.Lambda)) else None

    def member(self, cls: ast.ClassDef, name: str, depth: int = 0) -> FunctionNode | None:
        """The method or property ``name`` of a class, or of its bases in this module."""
        for statement in cls.body:
            if isinstance(statement, FUNCTIONS) and statement.name == name:
                return statement
        scope = self.names.scopes[cls].parent or self.names.module
        for base in cls.bases:
            origin = self.of(base, scope)
            if isinstance(origin, ast.ClassDef) and depth < 20 and (found := self.member(origin, name, depth + 1)):
                return found
        return None

    # --- one kind of expression each ------------------------------------------------------------------------------

    def _name(self, node: ast.Name, scope: Scope) -> Origin | None:
        owner = scope.owner(node.id)
        if owner is None:
            if is_builtin(node.id):
                return f"builtins.{node.id}"
            return f"{self.names.stars[0]}.{node.id}" if len(self.names.stars) == 1 else None
        origins = {self._binding(node.id, each, owner) for each in _candidates(node, scope, owner)}
        return origins.pop() if len(origins) == 1 else None

    def _binding(self, name: str, binding: Binding, owner: Scope) -> Origin | None:
        if binding in self._known:
            return self._known[binding]
        if binding in self._open or len(self._open) >= FOLLOWED_MAX:
            return None
        self._open.add(binding)
        origin = self._bound(name, binding, owner)
        self._open.discard(binding)
        if not self._open:  # else a circle may have been cut
            self._known[binding] = origin
        return origin

    def _bound(self, name: str, binding: Binding, owner: Scope) -> Origin | None:
        if binding.parameter and binding.origin is None and self._is_context(name, owner.node):
            return CONTEXT
        outer = owner.parent if binding.parameter and owner.parent else owner
        if said := self.of_annotation(binding.annotation, outer):
            return said
        if binding.value is None:
            return binding.origin
        origin = self.of(binding.value, owner)
        if origin == SET and isinstance(binding.value, ast.Call) and not binding.value.args:
            return TASK_SET if self._collects_tasks(name, owner) else SET
        return origin

    def _collects_tasks(self, name: str, owner: Scope) -> bool:
        """Is everything that ``name.add(…)`` and ``name.update(…)`` are called with a task?"""
        added: list[bool] = []
        for scope, call in self.names.calls:
            match call:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id=found), attr=("add" | "update") as how), args=[value]
                ):
                    if found == name and scope.owner(name) is owner:
                        added.append(self.is_task(value, scope) if how == "add" else self.holds_tasks(value, scope))
                case _:
                    pass
        return bool(added) and all(added)

    def _is_context(self, name: str, function: ast.AST) -> bool:
        """Is a parameter the Context? If it is called ``ctx``, or is the first one of a workflow."""
        if not isinstance(function, FUNCTIONS):
            return False
        return name == "ctx" or (name == parameters(function)[0].arg and self.kind(function) == "workflow")

    def _attribute(self, base: Origin | None, attribute: str) -> Origin | None:
        match base:
            case str():
                return same(f"{base}.{attribute}")
            case Instance(cls) | (ast.ClassDef() as cls):
                return self.member(cls, attribute)
            case _:
                return None

    def _call(self, node: ast.Call, scope: Scope) -> Origin | None:
        made_by = self.of(node.func, scope)
        match made_by:
            case "builtins.set" | "builtins.frozenset" if node.args and self.holds_tasks(node.args[0], scope):
                return TASK_SET
            case str() | ast.ClassDef():
                return self._instance(made_by)
            case ast.AsyncFunctionDef():
                return COROUTINE
            case ast.FunctionDef():
                return self.of_annotation(made_by.returns, self.names.scopes[made_by].parent or scope)
            case _:
                return None

    def _awaited(self, node: ast.expr, scope: Scope) -> Origin | None:
        """The result of an async function of this module, awaited directly or run as a step or child run."""
        if not isinstance(node, ast.Call):
            return None
        by_context = self.context_method(node, scope) in ("step", "run") and node.args
        function = self.function(node.args[0] if by_context else node.func, scope)
        if isinstance(function, FUNCTIONS):
            return self.of_annotation(function.returns, self.names.scopes[function].parent or scope)
        return None

    def _operation(self, node: ast.BinOp, scope: Scope) -> Origin | None:
        left, right = self.of(node.left, scope), self.of(node.right, scope)
        match node.op:
            case ast.Div():
                return PATH if PATH in (left, right) else None
            case ast.BitOr() | ast.BitAnd() | ast.Sub() | ast.BitXor():
                if TASK_SET in (left, right):
                    return TASK_SET
                return SET if SET in (left, right) or is_view(node.left) or is_view(node.right) else None
            case _:
                return left if left == right else None

    def _literal(self, node: ast.expr, scope: Scope) -> Origin | None:
        match node:
            case ast.Set() | ast.SetComp():
                return TASK_SET if self.holds_tasks(node, scope) else SET
            case ast.List() | ast.ListComp():
                return "builtins.list()"
            case ast.Dict() | ast.DictComp():
                return "builtins.dict()"
            case ast.Lambda():
                return node
            case _:
                return None

    def _generic(self, node: ast.Subscript, scope: Scope) -> Origin | None:
        base = self.of(node.value, scope)
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        match base:
            case "typing.Optional" | "typing.Annotated":
                return self.of_annotation(inner[0], scope)
            case "typing.Union":
                found = {self.of_annotation(each, scope) for each in inner if not _is_none(each)}
                return found.pop() if len(found) == 1 else None
            case _:
                made = self._instance(base)
        if made == SET:
            element = inner[0].value if isinstance(inner[0], ast.Subscript) else inner[0]
            return TASK_SET if self.of(element, scope) in TASKS else SET
        return made

    def _instance(self, cls: Origin | None) -> Origin | None:
        match cls:
            case str():
                return same(f"{cls}()")
            case ast.ClassDef():
                return Instance(cls)
            case _:
                return None


def _candidates(node: ast.Name, scope: Scope, owner: Scope) -> list[Binding]:
    """The bindings that may have given the name its value where ``node`` stands."""
    found = owner.bindings[node.id]
    above = [each for each in found if each.end <= (node.lineno, node.col_offset)]
    if owner is scope.frame and above:
        return [max(above, key=lambda each: each.end)]
    return [each for each in found if not _is_none(each.value)]


def _is_none(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is None
