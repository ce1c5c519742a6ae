"""Two versions of one program in one process: what a deploy does to the runs of a store."""

import shutil
import sys
import types
from pathlib import Path
from typing import Any

from cadenza import Engine, EngineOptions
from cadenza.durable.define import steps, workflows

MODULE = "shop"


def deploy(source: str, module: str = MODULE) -> Any:
    """This source is the program from now on: nothing of the version before is left."""
    for registry in (steps, workflows):
        for name in [each for each in registry if each.startswith(f"{module}:")]:
            del registry[name]
    made = types.ModuleType(module)
    made.__file__ = f"{module}.py"
    sys.modules[module] = made
    exec(compile(source, f"{module}.py", "exec"), made.__dict__)
    return made


def engine(path: Path, **options: Any) -> Engine:
    return Engine.open(path, EngineOptions(linger_s=0.005, **options))


def copy_of(path: Path, name: str) -> Path:
    """A copy of a store that nobody has open."""
    copied = path.with_name(name)
    for each in path.parent.glob(f"{path.name}*"):
        if each.is_file():
            shutil.copy(each, copied.with_name(each.name.replace(path.name, name, 1)))
    return copied
