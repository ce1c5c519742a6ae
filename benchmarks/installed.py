"""W5: what `pip install cadenza` brings: distributions, and their size on disk with compiled byte-code.

`python -m benchmarks.installed W5 FOLDER` installs the pinned requirements into a new environment in the folder.
"""

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.environment import PROJECT

PREINSTALLED = {"pip", "setuptools"}


def installed(folder: Path) -> dict[str, float]:
    """Distributions (Cadenza too), and megabytes of their files."""
    subprocess.run([sys.executable, "-m", "venv", str(folder / "env")], check=True)
    python = folder / "env" / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-r", str(PROJECT / "requirements" / "core.txt")], check=True, stdout=sys.stderr)
    packages = next((folder / "env" / "lib").glob("python*/site-packages"))
    names = {each.name.partition("-")[0].lower() for each in packages.glob("*.dist-info")} - PREINSTALLED
    subprocess.run([str(python), "-m", "compileall", "-q", str(packages)], check=False, stdout=sys.stderr)
    counted = [each for each in packages.iterdir() if each.name.partition("-")[0].lower() not in PREINSTALLED]
    own = [each for each in (PROJECT / "src" / "cadenza").rglob("*") if each.suffix != ".pyc"]
    size = sum(_bytes(each) for each in counted) + sum(each.stat().st_size for each in own if each.is_file())
    return {"W5-packages": len(names) + 1, "W5-size": size / 1e6}


def _bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(each.lstat().st_size for each in files if each.is_file())


if __name__ == "__main__":
    print(json.dumps(installed(Path(sys.argv[2]))))
