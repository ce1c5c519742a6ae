"""The shape of the source, held by reading it: layers, cycles, sizes, names, exports, and what an import costs.

A rule is a function from the folder of the package to its findings; a finding names the file and the fix. Each rule is
tested twice: it finds nothing in the package, and it finds the mistake in a tiny package that makes one.
"""

import ast
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "src" / "cadenza"

# Imports point down only: a row may import the rows below it, never its own neighbours. `cadenza` is the package's own
# __init__, which gathers the public names.
LAYERS = (
    ("__main__",),
    ("cli", "server", "studio"),
    ("testing",),
    ("cadenza",),
    ("spec",),
    ("patterns",),
    ("governance", "routing"),
    ("agents", "memory"),
    ("engine",),
    ("durable",),
    ("errors",),
)
RANK = {layer: len(LAYERS) - row for row, layers in enumerate(LAYERS) for layer in layers}

LINES_MAX = 400
EMPTY_NAMES = {"utils", "util", "helpers", "helper", "common", "types", "manager", "managers", "misc"}
IMPURE = {
    "apsw", "concurrent", "http", "multiprocessing", "select", "selectors", "socket", "sqlite3", "ssl", "subprocess",
    "threading", "time", "urllib",
}  # fmt: skip
HEAVY = ("apsw", "pydantic", "rich", "typer")

Rule = Callable[[Path], list[str]]


@dataclass(frozen=True)
class Import:
    """One imported name; `target` is a module of the package, or a module from outside of it."""

    line: int
    target: str
    typing_only: bool


@dataclass(frozen=True)
class Module:
    name: str
    file: str
    layer: str
    imports: tuple[Import, ...]


def layers(root: Path) -> list[str]:
    """Typing-only imports count too: a layer that names a higher one cannot be understood without it."""
    findings: list[str] = []
    for module in modules(root):
        if module.layer not in RANK:
            findings.append(f"{module.file}: {module.layer!r} is no layer yet: give it a row in LAYERS")
            continue
        for item in module.imports:
            other = layer_of(item.target, root.name)
            if other is None or other == module.layer or other not in RANK or RANK[other] < RANK[module.layer]:
                continue
            findings.append(
                f"{module.file}:{item.line}: {module.layer} imports {item.target}, which is not below it: "
                f"move what both need down, or take it as a Protocol that {other} supplies"
            )
    return findings


def cycles(root: Path) -> list[str]:
    """Imports inside functions count: they hide a cycle, they do not undo it."""
    files = {module.name: module.file for module in modules(root)}
    graph = {
        module.name: sorted({item.target for item in module.imports if not item.typing_only and item.target in files})
        for module in modules(root)
    }
    findings: list[str] = []
    done: set[str] = set()

    def visit(name: str, trail: list[str]) -> None:
        if name in trail:
            ring = [*trail[trail.index(name) :], name]
            findings.append(f"{files[name]}: import cycle {' -> '.join(ring)}: move what they share to a module below")
        elif name not in done:
            for target in graph[name]:
                visit(target, [*trail, name])
            done.add(name)

    for name in graph:
        visit(name, [])
    return findings


def sizes(root: Path) -> list[str]:
    return [
        f"{relative(file, root)}: {count} lines, at most {LINES_MAX}: split it by noun"
        for file in sorted(root.rglob("*.py"))
        if (count := len(file.read_text("utf-8").splitlines())) > LINES_MAX
    ]


def names(root: Path) -> list[str]:
    return [
        f"{relative(path, root)}: {path.stem!r} says nothing: name it after the noun it holds"
        for path in sorted(root.rglob("*"))
        if path.stem in EMPTY_NAMES
    ]


def purity(root: Path) -> list[str]:
    return [
        f"{module.file}:{item.line}: durable/ is pure and imports {item.target}: do it in engine/, pass the value in"
        for module in modules(root)
        for item in module.imports
        if module.layer == "durable" and item.target.split(".")[0] in IMPURE
    ]


def exports(root: Path) -> list[str]:
    """`__all__` of every package that has one is what the package offers: no name more, no name less."""
    script = """
import importlib, json, pkgutil, sys, types
package = importlib.import_module(sys.argv[1])
found = [info.name for info in pkgutil.walk_packages(package.__path__, package.__name__ + ".") if info.ispkg]
report = {}
for module in [package, *map(importlib.import_module, found)]:
    if hasattr(module, "__all__"):
        submodules = {n for n, v in vars(module).items() if isinstance(v, types.ModuleType)
                      and v.__name__ == f"{module.__name__}.{n}"}
        public = {n for n in vars(module) if not n.startswith("_")} - {"annotations"} - submodules
        missing = [n for n in module.__all__ if not hasattr(module, n)]
        twice = [n for n in set(module.__all__) if module.__all__.count(n) > 1]
        report[module.__name__] = [missing, sorted(public - set(module.__all__)), twice]
print(json.dumps(report))
"""
    report: dict[str, list[list[str]]] = json.loads(in_fresh_process(root, script))
    findings = [] if root.name in report else [f"{root.name}/__init__.py: no __all__: list the public names"]
    for package, (missing, unlisted, twice) in report.items():
        file = "/".join([*package.split("."), "__init__.py"])
        findings += [f"{file}: __all__ names {name!r}, which is not there: import it or drop it" for name in missing]
        findings += [f"{file}: {name!r} is public and not in __all__: list it or call it _{name}" for name in unlisted]
        findings += [f"{file}: __all__ names {name!r} twice: drop one" for name in twice]
    return findings


def import_cost(root: Path) -> list[str]:
    script = "import importlib, sys; importlib.import_module(sys.argv[1]); print(*sys.modules)"
    loaded = set(in_fresh_process(root, script).split())
    return [
        f"{root.name}/__init__.py: `import {root.name}` loads {name}: import it in the function that needs it"
        for name in HEAVY
        if name in loaded
    ]


@cache
def modules(root: Path) -> tuple[Module, ...]:
    """Every module of the package under `root`, with what it imports anywhere in the file."""
    files: dict[str, Path] = {}
    for file in sorted(root.rglob("*.py")):
        parts = (root.name, *file.relative_to(root).with_suffix("").parts)
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    found: list[Module] = []
    for name, file in files.items():
        tree = ast.parse(file.read_text("utf-8"), str(file))
        package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        imports = tuple(imports_in(tree, package, set(files), typing_only=False))
        found.append(Module(name, relative(file, root), layer_of(name, root.name) or name, imports))
    return tuple(found)


def imports_in(node: ast.AST, package: str, known: set[str], *, typing_only: bool) -> Iterator[Import]:
    """The imports below `node`; `from x import y` means module x.y where there is one, else module x."""
    match node:
        case ast.Import(names=aliases):
            yield from (Import(node.lineno, alias.name, typing_only) for alias in aliases)
        case ast.ImportFrom(module=source, names=aliases, level=level):
            above = package.split(".")[: len(package.split(".")) - level + 1] if level else []
            base = ".".join([*above, *([source] if source else [])])
            inner = [f"{base}.{alias.name}" for alias in aliases]
            targets = dict.fromkeys(name if name in known else base for name in inner)
            yield from (Import(node.lineno, target, typing_only) for target in targets)
        case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
            for child in node.body:
                yield from imports_in(child, package, known, typing_only=True)
            for child in node.orelse:
                yield from imports_in(child, package, known, typing_only=typing_only)
        case _:
            for child in ast.iter_child_nodes(node):
                yield from imports_in(child, package, known, typing_only=typing_only)


def layer_of(module: str, package: str) -> str | None:
    """The first name below the package; the package itself for its __init__; None outside of it."""
    head, *rest = module.split(".")
    if head != package:
        return None
    return rest[0] if rest else package


def relative(path: Path, root: Path) -> str:
    return path.relative_to(root.parent).as_posix()


def in_fresh_process(root: Path, script: str) -> str:
    """What `script` prints with the folder above `root` first on the path and the package's name as its argument."""
    prelude = f"import sys; sys.path.insert(0, {str(root.parent)!r})\n"
    command = [sys.executable, "-c", prelude + script, root.name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{root.name} cannot be imported:\n{done.stderr}"
    return done.stdout


def assert_package_obeys(rule: Rule) -> None:
    assert (ROOT / "__init__.py").is_file(), f"{ROOT} holds no package: set ROOT to where it went"
    findings = rule(ROOT)
    assert not findings, "\n" + "\n".join(findings)


def test_imports_point_down_the_layers() -> None:
    assert_package_obeys(layers)


def test_no_modules_import_each_other_in_a_cycle() -> None:
    assert_package_obeys(cycles)


def test_no_file_is_longer_than_the_bound() -> None:
    assert_package_obeys(sizes)


def test_every_file_and_folder_has_a_name_that_says_something() -> None:
    assert_package_obeys(names)


def test_the_durable_core_imports_no_io_clock_or_threads() -> None:
    assert_package_obeys(purity)


def test_all_lists_exactly_what_a_package_exports() -> None:
    assert_package_obeys(exports)


def test_importing_the_package_loads_no_heavy_library() -> None:
    assert_package_obeys(import_cost)


INIT = {"__init__.py": "__all__: list[str] = []\n"}


@pytest.mark.parametrize(
    ("rule", "tree", "finding"),
    [
        pytest.param(layers, {"durable/loop.py": "import cadenza.engine.store"}, "durable/loop.py:1", id="import-up"),
        pytest.param(
            layers, {"agents/card.py": "from ..memory import board"}, "agents/card.py:1", id="import-sideways"
        ),
        pytest.param(layers, {"engine/steps.py": "from cadenza import Context"}, "imports cadenza,", id="import-root"),
        pytest.param(layers, {"wizard/spell.py": ""}, "'wizard' is no layer", id="unknown-layer"),
        pytest.param(
            layers,
            {"durable/loop.py": "import typing\nif typing.TYPE_CHECKING:\n    from cadenza.cli import main"},
            "durable/loop.py:3",
            id="import-up-for-typing",
        ),
        pytest.param(
            cycles,
            {"durable/a.py": "from .b import x", "durable/b.py": "def f():\n    from cadenza.durable import a"},
            "cadenza.durable.a -> cadenza.durable.b -> cadenza.durable.a",
            id="cycle-hidden-in-a-function",
        ),
        pytest.param(
            cycles,
            {"durable/__init__.py": "from cadenza.durable.a import x", "durable/a.py": "from cadenza.durable import y"},
            "cadenza.durable -> cadenza.durable.a -> cadenza.durable",
            id="cycle-through-the-package",
        ),
        pytest.param(sizes, {"errors.py": "\n" * 401}, "errors.py: 401 lines", id="long-file"),
        pytest.param(names, {"engine/utils.py": ""}, "engine/utils.py", id="file-named-utils"),
        pytest.param(names, {"helpers/lease.py": ""}, "cadenza/helpers", id="folder-named-helpers"),
        pytest.param(purity, {"durable/loop.py": "from time import monotonic"}, "durable/loop.py:1", id="clock"),
        pytest.param(purity, {"durable/loop.py": "import concurrent.futures"}, "concurrent.futures", id="threads"),
        pytest.param(exports, {"__init__.py": "__all__ = ['gone']"}, "'gone', which is not there", id="export-missing"),
        pytest.param(exports, {"__init__.py": "import os\n__all__ = []"}, "'os' is public", id="export-unlisted"),
        pytest.param(exports, {"__init__.py": "a = 1\n__all__ = ['a', 'a']"}, "'a' twice", id="export-twice"),
        pytest.param(exports, {"__init__.py": ""}, "no __all__", id="export-nothing-said"),
        pytest.param(
            exports,
            INIT | {"engine/__init__.py": "x = 1\n__all__ = []"},
            "cadenza/engine/__init__.py: 'x'",
            id="export-of-a-subpackage",
        ),
        pytest.param(import_cost, {"__init__.py": "import rich.text"}, "loads rich", id="heavy-import"),
    ],
)
def test_each_rule_finds_its_mistake(rule: Rule, tree: dict[str, str], finding: str, tmp_path: Path) -> None:
    findings = rule(write(tmp_path / "cadenza", tree))
    assert len(findings) == 1, findings
    assert finding in findings[0]


@pytest.mark.parametrize("rule", [layers, cycles, sizes, names, purity, exports, import_cost])
def test_no_rule_complains_about_a_sound_package(rule: Rule, tmp_path: Path) -> None:
    tree = {
        "__init__.py": "from cadenza.engine.lease import Lease\n__all__ = ['Lease']",
        "errors.py": "class CadenzaError(Exception): ...",
        "durable/__init__.py": "",
        "durable/path.py": "import re\nfrom ..errors import CadenzaError",
        "durable/loop.py": (
            "from typing import TYPE_CHECKING\n"
            "from . import path\n"
            "if TYPE_CHECKING:\n    from cadenza.durable.machine import Machine"
        ),
        "durable/machine.py": "from cadenza.durable import loop, path",
        "engine/__init__.py": "from cadenza.engine.lease import Lease\n__all__ = ['Lease']",
        "engine/lease.py": "import threading\nfrom cadenza.durable.machine import loop\nclass Lease: ...",
        "cli/main.py": "import cadenza\nfrom cadenza import errors",
    }
    assert rule(write(tmp_path / "cadenza", tree)) == []


def write(root: Path, tree: dict[str, str]) -> Path:
    for name, text in tree.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, "utf-8")
    return root
