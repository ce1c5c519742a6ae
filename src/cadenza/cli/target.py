"""From ``file.py:workflow`` to the workflow: finding and importing the user's module, and reading the input.

A file is imported under the name by which a worker would import it: its stem, with its folder on ``sys.path``; a file
in a package has its dotted name, with the folder above the package on ``sys.path``.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import json
import shlex
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from cadenza.cli.agents_beside import load_agents_beside
from cadenza.cli.failures import own_trace
from cadenza.durable.define import WorkflowFunction, workflows
from cadenza.errors import UnknownName, UsageError, UserCodeError

Workflow = WorkflowFunction[..., Any]


def find_workflow(target: str) -> Workflow:
    """The workflow that ``target`` names: ``file.py:name``, ``module:name``, or either alone if it has just one.

    Raises:
        UnknownName: no such file, module or workflow; with the nearest names.
        UsageError: several workflows, and none was named.
        UserCodeError: the module cannot be imported.
    """
    place, name = _split(target)
    module = load(place)
    return _named(module, place, name) if name else _only(module, place)


def load(place: str) -> ModuleType:
    """Import a file or a module by name. Raises UnknownName, UsageError, UserCodeError."""
    if place.endswith(".py") or "/" in place or (Path(place).is_dir() and not Path(place, "__init__.py").exists()):
        return _load_file(place)
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    return _import(place, Path(place.replace(".", "/") + ".py"))


def load_for(workflow: str, folders: list[Path]) -> None:
    """Import the module of a recorded ``module:qualname`` from the first of ``folders`` that has it."""
    module = workflow.partition(":")[0]
    if workflow in workflows:
        return
    head = module.partition(".")[0]
    for folder in folders:
        if (folder / head).is_dir() or (folder / f"{head}.py").is_file():
            sys.path.insert(0, str(folder.resolve()))
            break
    importlib.invalidate_caches()
    if not _exists(module):
        looked = " and ".join(dict.fromkeys(str(folder.resolve()) for folder in folders))
        raise UsageError(
            f"the run's workflow is {workflow}, and there is no module {module!r} in {looked}. "
            "Go to the folder that has it, or name its file after the run: cadenza resume RUN FILE"
        )
    _import(module, None)
    if workflow not in workflows:
        known = [name for name in workflows if name.startswith(f"{module}:")]
        hint = f"The run needs it; was it renamed or deleted in {module!r}? Nothing was changed."
        raise UnknownName("workflow", workflow, known, hint)


def read_input(text: str | None, workflow: Workflow) -> Any:
    """The input that the command line gives, as the workflow's type.

    Args:
        text: JSON, ``@file`` with JSON in it, ``-`` for JSON on standard input, or None: no input.

    Raises:
        UsageError: no such file, or not JSON. InputInvalid, PayloadTooLarge: it does not fit.
    """
    from cadenza.durable import codec

    if text is None:
        if workflow.takes_input and not _may_be_none(workflow):
            raise UsageError(
                f"the workflow {workflow.label} needs an input of type {_type_name(workflow.input_type)}: as JSON, as "
                f"@file.json, or as - to read it from standard input. For example: {shlex.quote(_example(workflow))}"
            )
        return None
    raw, source = _text(text, "the input")
    value = _parse(raw, source, hint_text=workflow.input_type is str)
    if workflow.takes_input:
        value = codec.decode(raw.encode(), workflow.input_type, f"the input of {workflow.label}")
    workflow.encode_input(value)  # refused before a store is made
    return value


def read_json(text: str, what: str) -> Any:
    """The value of an argument: JSON, ``@file``, or ``-``. Raises UsageError."""
    return _parse(*_text(text, what), hint_text=True)


def _parse(raw: str, source: str, *, hint_text: bool = False) -> Any:
    """JSON text as plain data. Raises UsageError, which shows the place."""
    try:
        return json.loads(raw)
    except json.JSONDecodeError as error:
        lines = error.doc.splitlines() or [""]
        line = lines[min(error.lineno, len(lines)) - 1]
        start = max(0, error.colno - 40)
        excerpt = f"  {line[start : start + 72]}\n  {' ' * (error.colno - 1 - start)}^"
        message = f"{source} is not JSON: {error.msg} (line {error.lineno}, column {error.colno})\n{excerpt}"
        if hint_text and raw.strip()[:1] not in ("{", "["):
            message += f"\nA text is written with its quotes: {shlex.quote(json.dumps(raw))}"
        raise UsageError(message) from None
    except RecursionError:
        raise UsageError(f"{source} is nested too deeply") from None


def _text(text: str, what: str) -> tuple[str, str]:
    """The JSON text that an argument stands for, and where it is from."""
    if text == "-":
        return sys.stdin.read(), "standard input"
    if not text.startswith("@"):
        return text, what
    path = Path(text[1:]).expanduser()
    try:
        return path.read_text(encoding="utf-8"), str(path)
    except FileNotFoundError:
        raise UnknownName("input file", str(path), _siblings(path, ".json")) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the input file {path} cannot be read: {error}") from None


def _may_be_none(workflow: Workflow) -> bool:
    from cadenza.durable import codec
    from cadenza.errors import InputInvalid

    try:
        codec.coerce(None, workflow.input_type, "the input")
    except InputInvalid:
        return False
    return True


def _type_name(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")


def _example(workflow: Workflow) -> str:
    """JSON of the right shape."""
    from cadenza.durable import codec

    try:
        schema: dict[str, Any] = codec.adapter(workflow.input_type).json_schema()
    except Exception:  # a type that validates and has no schema
        return "null"
    return json.dumps(_sample(schema, schema.get("$defs", {}), 0))


def _sample(schema: dict[str, Any], named: dict[str, Any], depth: int) -> Any:
    if "$ref" in schema and depth < 8:
        return _sample(named.get(schema["$ref"].rpartition("/")[2], {}), named, depth + 1)
    for key in ("examples", "enum"):
        if schema.get(key):
            return schema[key][0]
    if "const" in schema or "default" in schema:
        return schema.get("const", schema.get("default"))
    for key in ("anyOf", "oneOf", "allOf"):
        if schema.get(key):
            return _sample(schema[key][0], named, depth + 1)
    match schema.get("type"):
        case "object":
            fields, required = schema.get("properties", {}), schema.get("required", [])
            return {name: _sample(each, named, depth + 1) for name, each in fields.items() if name in required}
        case "array":
            return [_sample(schema["items"], named, depth + 1)] if schema.get("items") and depth < 8 else []
        case kind:
            return {"string": "text", "integer": 1, "number": 1.0, "boolean": True}.get(str(kind))


# --- modules ----------------------------------------------------------------------------------------------------------


def _split(target: str) -> tuple[str, str]:
    place, colon, name = target.rpartition(":")
    if not colon:
        return target, ""
    if not place or not name:
        raise UsageError(f"{target!r} is no target. Write file.py:workflow, module:workflow, or file.py alone.")
    return place, name


def _load_file(place: str) -> ModuleType:
    path = Path(place).expanduser()
    if path.is_dir():
        inside = ", ".join(sorted(each.name for each in path.glob("*.py"))[:5]) or "no Python files"
        raise UsageError(f"{place} is a folder with {inside}. Name a file: cadenza run {path / 'workflows.py'}")
    if not path.is_file():
        raise UnknownName("file", place, _siblings(path, ".py"))
    path = path.resolve()
    folder, name = path.parent, path.stem
    while (folder / "__init__.py").is_file():
        folder, name = folder.parent, f"{folder.name}.{name}"
    if str(folder) in sys.path:
        sys.path.remove(str(folder))
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    module = _import(name.removesuffix(".__init__"), path)
    found = getattr(module, "__file__", None)
    if found is None or Path(found).resolve() != path:
        raise UsageError(
            f"{place} cannot be imported as {name!r}: that is the name of another module ({found or 'built in'}). "
            "Rename the file."
        )
    return module


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError, AttributeError):
        return module.partition(".")[0] in sys.modules or "." not in module


def _import(name: str, path: Path | None) -> ModuleType:
    shown = str(path) if path is not None and path.is_file() else name
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            hint = f"Looked in {Path.cwd()} and the installed packages. A file is named with its .py."
            raise UnknownName("module", name, _siblings(Path(f"{name}.py"), ".py"), hint) from None
        hint = f"Is {error.name!r} installed in the environment of this cadenza ({sys.executable})?"
        raise UserCodeError(f"{shown} cannot be imported", own_trace(error), hint) from None
    except SystemExit as error:
        hint = 'Put what runs as a script under: if __name__ == "__main__":'
        raise UserCodeError(f"{shown} left the process while it was imported", own_trace(error), hint) from None
    except Exception as error:
        raise UserCodeError(f"{shown} cannot be imported", own_trace(error)) from None
    load_agents_beside(module)
    return module


def _siblings(path: Path, suffix: str) -> list[str]:
    """Files beside ``path`` that could have been meant, named as it was."""
    folder = path.parent
    if not folder.is_dir():
        return []
    return [str(folder / each.name) for each in folder.iterdir() if each.suffix == suffix][:200]


# --- workflows in a module --------------------------------------------------------------------------------------------


def workflows_of(module: ModuleType) -> dict[str, Workflow]:
    """The workflows of a module by their label: its own, or if it has none, those that it imports."""
    known = list(workflows.values())
    own = {each.label: each for each in known if each.name.startswith(f"{module.__name__}:")}
    held = {id(value) for value in vars(module).values()}
    return own or {each.label: each for each in known if id(each) in held}


def _named(module: ModuleType, place: str, name: str) -> Workflow:
    found = vars(module).get(name)
    for each in workflows.values():
        if each is found:
            return each
    known = workflows_of(module)
    by_qualname = {each.name.partition(":")[2]: each for each in known.values()}
    if name in known or name in by_qualname:
        return known.get(name) or by_qualname[name]
    if found is not None:
        close = difflib.get_close_matches(name, list(known), n=1)
        other = close[0] if close else next(iter(known), "")
        hint = f" Did you mean {place}:{other}?" if other else ""
        raise UsageError(f"{name!r} in {place} is no workflow; decorate the function with @workflow.{hint}")
    raise UnknownName(
        "workflow", name, known, "" if known else f"{place} defines none: decorate an async function with @workflow."
    )


def _only(module: ModuleType, place: str) -> Workflow:
    known = workflows_of(module)
    if len(known) == 1:
        return next(iter(known.values()))
    if not known:
        raise UsageError(f"{place} has no workflow. Decorate an async function with @workflow.")
    choices = "\n".join(f"  {place}:{label}" for label in known)
    raise UsageError(f"{place} has {len(known)} workflows; name one:\n{choices}")
