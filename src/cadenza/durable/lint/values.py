"""Dotted names of the values that the lint tells apart: sets, tasks, paths, the Context, coroutines."""

from __future__ import annotations

import ast

from cadenza.durable.lint.names import Origin

SET = "builtins.set()"
TASK_SET = "builtins.set() of tasks"  # tasks hash by creation order: iterating is deterministic
PATH = "pathlib.Path()"
CONTEXT = "cadenza.Context()"
COROUTINE = "types.CoroutineType()"

_SET_METHODS = ("union", "intersection", "difference", "symmetric_difference", "copy")
_SET_TYPES = ("typing.Set", "typing.FrozenSet", "typing.AbstractSet", "typing.MutableSet", "collections.abc.Set")
_PATH_METHODS = (
    "with_suffix", "with_name", "with_stem", "joinpath", "absolute", "resolve", "expanduser", "relative_to", "rename",
    "replace",
)  # fmt: skip
_SAME = {
    "builtins.frozenset()": SET,
    "collections.abc.MutableSet()": SET,
    **{f"{each}()": SET for each in _SET_TYPES},
    **{f"{SET}.{each}()": SET for each in _SET_METHODS},
    **{f"builtins.set.{each}()": SET for each in _SET_METHODS},
    "pathlib.PosixPath()": PATH,
    "pathlib.Path.cwd()": PATH,
    "pathlib.Path.home()": PATH,
    f"{PATH}.parent": PATH,
    **{f"{PATH}.{each}()": PATH for each in _PATH_METHODS},
}
TASKS = ("asyncio.Task", "asyncio.Future")


def same(origin: str) -> str:
    """One name for what counts as the same: every way to a Context, to a set, to a path."""
    if origin.startswith("cadenza.") and origin.endswith(".Context()"):
        return CONTEXT
    return _SAME.get(origin, origin)


def generic_class(origin: Origin | None) -> Origin | None:
    """``list[int]`` is the class ``list``; an element of anything else is unknown."""
    if isinstance(origin, str) and "()" not in origin:
        is_class = origin.startswith(("builtins.", "collections.")) or origin.rpartition(".")[2][:1].isupper()
        return origin if is_class else None
    return origin if isinstance(origin, ast.ClassDef) else None


def either(first: Origin | None, second: Origin | None) -> Origin | None:
    return SET if SET in (first, second) else first if first == second else None


def is_view(node: ast.expr) -> bool:
    """``mapping.keys()``, which makes a set of its operators."""
    match node:
        case ast.Call(func=ast.Attribute(attr="keys" | "items"), args=[], keywords=[]):
            return True
        case _:
            return False
