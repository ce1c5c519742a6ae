"""Where the benchmark runs: the peers' own environment, the filesystem under the databases, the machine."""

import hashlib
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
PEERS = PROJECT / ".venv-bench"
REQUIREMENTS = PROJECT / "requirements" / "bench.txt"


class PeersUnavailable(Exception):
    """The peers' environment could not be made; `reason` is the installer's own last word."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


def peers_python(say: Callable[[str], None]) -> Path:
    """The interpreter of `.venv-bench`, which is made on first use and again when requirements/bench.txt changes.

    Raises PeersUnavailable if it cannot be made (no network, no matching release)."""
    python = PEERS / "bin" / "python"
    stamp = PEERS / "made-for.txt"
    wanted = f"{hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()} python {platform.python_version()}\n"
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    say(f"Creating {PEERS.name} from {REQUIREMENTS.relative_to(PROJECT)} (once, about half a minute)")
    _run([sys.executable, "-m", "venv", "--clear", str(PEERS)], say)
    _run([str(python), "-m", "pip", "install", "--retries", "2", "--timeout", "20", "-r", str(REQUIREMENTS)], say)
    stamp.write_text(wanted)
    return python


def _run(command: list[str], say: Callable[[str], None]) -> None:
    """Run an installer; show what it collects and installs; raise PeersUnavailable with its last error line."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    last, error = "", ""
    for line in process.stdout:
        last = line.strip() or last
        if last.startswith("ERROR:"):
            error = last
        if match := re.match(r"(Collecting \S+|Installing collected packages)", last):
            say(f"  {match[1]}")
    if process.wait() != 0:
        raise PeersUnavailable((error or last or f"exit code {process.returncode}").removeprefix("ERROR: "))


def filesystem(folder: Path) -> str:
    """Type of the filesystem that holds `folder`, e.g. "ext4"; "unknown" where the system does not say."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return "unknown"
    holding = [m for m in mounts if len(m) > 2 and folder.resolve().is_relative_to(m[1].replace("\\040", " "))]
    return max(holding, key=lambda m: len(m[1]), default=["", "", "unknown"])[2]


def in_memory(kind: str) -> bool:
    """Whether a filesystem of this type forgets, so that a commit there costs no disk."""
    return kind in ("tmpfs", "ramfs", "devtmpfs")


def crowded() -> bool:
    """Whether others want more processors than there are: then ratios suffer too, W1 and the processor time most."""
    return hasattr(os, "getloadavg") and os.getloadavg()[0] > (os.cpu_count() or 1)


def machine() -> str:
    """One line about the computer: cores, load, Python, system."""
    load = f"load {os.getloadavg()[0]:.1f}, " if hasattr(os, "getloadavg") else ""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{os.cpu_count()} cores, {load}{python}, {platform.system()} {platform.release()}"
