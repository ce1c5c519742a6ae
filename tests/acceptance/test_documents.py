"""The Python of README and docs runs as it is written."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# docs/determinism.md has a test of its own
DOCS = (
    "guide",
    "testing",
    "agents",
    "models",
    "agent-kinds",
    "changing-code",
    "operations",
    "learning",
    "routing",
    "surviving",
    "routing-quality",
)
PAGES = [ROOT / "README.md", *(ROOT / "docs" / f"{name}.md" for name in DOCS)]
BLOCKS = [
    pytest.param(page, number, block, id=f"{page.name}-{number}")
    for page in PAGES
    for number, block in enumerate(
        re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S), 1
    )
    if "# not run" not in block
]
INPUTS = {
    "checkout": "o-1",
    "trip": "friday",
    "order": "ann",
    "report": "acme",
    "reminder": "ann",
}


@pytest.mark.parametrize(("page", "number", "block"), BLOCKS)
def test_python_in_documents_runs(page: Path, number: int, block: str, tmp_path: Path) -> None:
    module = f"{page.stem.lower()}_{number}"
    (tmp_path / f"{module}.py").write_text(block, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", f"{module}.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{page.name}, block {number}:\n{done.stderr}"


@pytest.mark.parametrize("name", sorted(INPUTS))
def test_workflows_of_the_guide_run_to_their_end(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = next(b.values[2] for b in BLOCKS if f"async def {name}(ctx" in str(b.values[2]))
    module = f"guide_of_{name}"
    (tmp_path / f"{module}.py").write_text(str(block).replace("asyncio.run(main())", ""), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)

    from cadenza import Engine, EngineOptions

    async def main() -> object:
        workflow = getattr(__import__(module), name)
        async with Engine.open(":memory:", EngineOptions(verify_replay=True)) as engine:
            return await (await engine.start(workflow, INPUTS[name])).result()

    assert asyncio.run(main())
