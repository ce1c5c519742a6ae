"""A trained model on disk: ``arrays.npz`` and ``model.json``, never pickled, checked by hashes when they are read."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cadenza.errors import UsageError
from cadenza.routing.embedding import LOCAL, Embedder, embedder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[Any]]
else:
    Arrays = dict

FORMAT = 1
JSON, ARRAYS = "model.json", "arrays.npz"


def save(folder: Path, kind: str, plain: dict[str, Any], arrays: Arrays) -> str:
    """Write a model; a folder of that name is replaced at once or not at all.

    Args:
        kind: what can read it (``skill classifier``).
        plain: values of JSON.

    Returns:
        The hash of everything that was written, which ``load`` can be asked to check.
    """
    import numpy as np

    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        with (beside / ARRAYS).open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
        head = {"format": FORMAT, "kind": kind, "arrays_sha256": _sha256(beside / ARRAYS)}
        (beside / JSON).write_text(json.dumps(head | {"model": plain}, ensure_ascii=False) + "\n", "utf-8")
        made = _sha256(beside / JSON)
        beside.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(beside, folder)
        return made
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def load(folder: Path, kind: str, sha256: str = "") -> tuple[dict[str, Any], Arrays]:
    """Read a model.

    Args:
        sha256: what ``save`` returned; empty if nobody knows.

    Raises:
        UsageError: it is missing, of another kind or format, or its files were changed.
    """
    import numpy as np

    try:
        head: dict[str, Any] = json.loads((folder / JSON).read_text("utf-8"))
        if head["format"] != FORMAT or head["kind"] != kind:
            raise _refused(folder, f"it is a {head['kind']} of format {head['format']}, not a {kind} of {FORMAT}")
        if (sha256 and _sha256(folder / JSON) != sha256) or _sha256(folder / ARRAYS) != head["arrays_sha256"]:
            raise _refused(folder, "its files are not those that were written")
        with np.load(folder / ARRAYS, allow_pickle=False) as stored:
            return head["model"], {name: stored[name] for name in stored.files}
    except FileNotFoundError as error:
        raise _refused(folder, f"{Path(error.filename).name} is missing") from error
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise _refused(folder, f"it cannot be read ({error})") from error


def embedder_of(plain: dict[str, Any], folder: Path, model: Embedder | None) -> Embedder:
    """The embedder that a model was trained with; ``model`` if it is given.

    Raises:
        UsageError: it is another one, or of another version.
    """
    name, version = plain["embedder"]
    model = model or (embedder() if name.startswith(f"{LOCAL}:") else embedder(name))
    if (model.name, model.version) == (name, version):
        return model
    there = f"{model.name} {model.version} is what there is"
    raise _refused(folder, f"it was trained on the vectors of {name} {version}, and {there}")


def _refused(folder: Path, problem: str) -> UsageError:
    return UsageError(f"the model in {folder} is not used: {problem}. Train it again: cadenza agents train")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
