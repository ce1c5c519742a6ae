"""Records journals of real runs on SQLite: ``python -m tests.journals.record [NAME…]``. Never overwrites one.

A file holds a run's last generation, an event a line, as JSON (payloads in base64).
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from cadenza import Answer, Engine, EngineOptions, RunCancelled, RunFailed
from tests.journals import workflows

FOLDER = Path(__file__).parent
ORDER = workflows.Order("o-1", 1250, ["tea", "cup"])
INPUTS: dict[str, Any] = {
    "chain": ORDER,
    "fan_out": ["a", "b", "c"],
    "nested": ["a", "b"],
    "mapped": ["a", "b", "c", "d"],
    "timed": "ann",
    "talk": "ann",
    "parent": "ann",
    "saga": "ann",
    "cancelled": "ann",
    "continued": 1,
    "patched": "ann",
    "caught": "ann",
}


async def record(name: str, folder: Path) -> list[bytes]:
    """Run the workflow ``name`` to its end, and give its last generation's events as lines."""
    async with Engine.open(folder / f"{name}.db", EngineOptions(linger_s=0.01)) as engine:
        handle = await engine.start(getattr(workflows, name), INPUTS[name])
        if name in ("talk", "cancelled"):
            await handle.settled()
        if name == "talk":
            await engine.answer(handle.run_id, "@ask#1", Answer(choice="yes", by="test"))
            await handle.signal("word", "hello")
        if name == "cancelled":
            await handle.cancel("enough")
        try:
            await handle.result()
        except (RunFailed, RunCancelled) as error:
            print(f"{name}: {error}")
        row = handle.row
        return [msgspec.json.encode(_without_traces(event)) for event in engine.store.events(row.no, row.first_seq)]


def _without_traces(value: Any) -> Any:
    """Tracebacks name the files of one machine."""
    plain = msgspec.to_builtins(value) if isinstance(value, msgspec.Struct) else value
    if isinstance(plain, dict):
        return {name: _without_traces(part) for name, part in plain.items() if name != "trace"}
    return plain


def main() -> None:
    for name in sys.argv[1:] or INPUTS:
        file = FOLDER / f"{name}.jsonl"
        if file.exists():
            print(f"{file.name} is there already; a recorded journal is not changed")
            continue
        with tempfile.TemporaryDirectory() as folder:
            file.write_bytes(b"\n".join(asyncio.run(record(name, Path(folder)))) + b"\n")
        print(f"recorded {file.name}")


if __name__ == "__main__":
    main()
