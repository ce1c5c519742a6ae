"""What the shell completes: runs of the store, and workflows of a file. Problems complete nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from cadenza.cli.place import DEFAULT

RUNS_MAX = 200
WORKFLOW = re.compile(r"^@(?:\w+\.)?workflow\b.*\n(?:@.*\n)*async def (\w+)", re.M)


def run_ids(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Run ids and business ids, newest first, with what they are."""
    try:
        return list(_runs(context, incomplete))
    except Exception:  # a store that cannot be read must not garble the prompt
        return []


RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", autocompletion=run_ids, help="A run's id, its beginning, or its business id.")
]


def _runs(context: typer.Context, incomplete: str) -> Iterator[tuple[str, str]]:
    path = Path(context.params.get("store") or os.environ.get("CADENZA_STORE") or DEFAULT).expanduser()
    if not path.is_file():
        return
    from cadenza.engine.sqlite.store import SQLiteStore
    from cadenza.engine.store import Filter

    store = SQLiteStore(path)
    try:
        rows = store.runs(Filter(limit=RUNS_MAX))
    finally:
        store.close()
    for row in rows:
        if "." not in row.run_id:
            about = f"{row.workflow.rpartition(':')[2]}, {row.shown_status}"
            yield from ((id, about) for id in (row.business_id, row.run_id) if id and id.startswith(incomplete))


def targets(incomplete: str) -> list[str]:
    """Python files, and after a file's colon its workflows; read, not imported."""
    place, colon, begun = incomplete.rpartition(":")
    try:
        if colon:
            names = WORKFLOW.findall(Path(place).read_text("utf-8"))
            return [f"{place}:{name}" for name in names if name.startswith(begun)]
        folder = Path(incomplete).parent if "/" in incomplete else Path()
        found = [each for each in sorted(folder.iterdir()) if not each.name.startswith(".")]
        return [
            f"{each}{'/' if each.is_dir() else ''}"
            for each in found
            if str(each).startswith(incomplete) and (each.is_dir() or each.suffix == ".py")
        ]
    except OSError:
        return []
