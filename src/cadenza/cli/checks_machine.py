"""The doctor's checks of the machine: Python, libraries, SQLite, the folder's disk, and its file locks."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

PACKAGES = ("cadenza", "msgspec", "pydantic", "apsw", "typer", "rich")
PYTHON_MIN = (3, 11)
SQLITE_MIN = (3, 35, 0)
FSYNCS = 15
FSYNC_TOO_FAST_S = 0.00003
FSYNC_SLOW_S = 0.05
FREE_BYTES_MIN = 200_000_000
IN_MEMORY = ("tmpfs", "ramfs")
SHARED = ("nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "virtiofs", "glusterfs", "ceph")
LOCK_PROBE = """
import fcntl, sys
try:
    fcntl.lockf(open(sys.argv[1], "r+"), fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    sys.exit(3)
"""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. A problem keeps Cadenza from working; a warning is good to know."""

    name: str
    state: Literal["ok", "warning", "problem"]
    detail: str


def machine_checks() -> Iterator[Check]:
    """Python and what is installed."""
    system = f"{platform.python_implementation()}, {platform.system()} {platform.machine()}"
    shown = f"{platform.python_version()} ({system}), {sys.executable}"
    yield Check("Python", "ok" if sys.version_info >= PYTHON_MIN else "problem", shown)
    yield Check("packages", "ok", ", ".join(f"{name} {_version(name)}" for name in PACKAGES))
    import apsw

    number = apsw.sqlite_lib_version()
    new_enough = tuple(int(part) for part in number.split(".")[:3]) >= SQLITE_MIN
    yield Check(
        "SQLite", "ok" if new_enough else "problem", f"{number}" + ("" if new_enough else "; 3.35 or newer is needed")
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(not installed)"


def place_checks(store: Path) -> Iterator[Check]:
    """The folder that the store is in, or will be."""
    folder = store.parent
    if not folder.is_dir():
        yield Check("folder", "problem", f"{folder} does not exist. Create it: mkdir -p {folder}")
        return
    try:
        with tempfile.TemporaryDirectory(prefix=".cadenza-doctor-", dir=folder) as name:
            yield from _folder(folder)
            probe = Path(name)
            yield _wal(probe)
            yield _fsync(probe, _filesystem(folder))
            yield _locks(probe)
    except OSError as error:
        yield Check("folder", "problem", f"{folder.resolve()} cannot be written: {error.strerror or error}")


def _folder(folder: Path) -> Iterator[Check]:
    kind, free = _filesystem(folder), shutil.disk_usage(folder).free
    shown = f"{folder.resolve()}, {kind or 'unknown file system'}, {free / 1e9:.1f} GB free"
    if kind in SHARED:
        yield Check("folder", "problem", f"{shown}: SQLite's log needs a disk of this machine; put the store elsewhere")
    elif kind in IN_MEMORY:
        yield Check("folder", "warning", f"{shown}: it is in memory, and gone when the machine stops")
    elif free < FREE_BYTES_MIN:
        yield Check("folder", "warning", f"{shown}: that is little")
    else:
        yield Check("folder", "ok", shown)


def _filesystem(folder: Path) -> str:
    """The type of the file system that holds a folder; empty where the system does not tell."""
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    place, best, kind = str(folder.resolve()), "", ""
    for line in lines:
        left, _, right = line.partition(" - ")
        mount = left.split(" ")[4].replace("\\040", " ")
        inside = place == mount or place.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, right.split(" ")[0]
    return kind


def _wal(probe: Path) -> Check:
    """Two connections share a write-ahead log."""
    import apsw

    file = str(probe / "probe.db")
    try:
        writer: Any = apsw.Connection(file)
        reader: Any = apsw.Connection(file)
        mode = writer.pragma("journal_mode", "wal")
        writer.execute("CREATE TABLE probe (n); INSERT INTO probe VALUES (1)")
        seen = next(iter(reader.execute("SELECT n FROM probe")))[0]
        writer.close()
        reader.close()
    except apsw.Error as error:
        return Check("write-ahead log", "problem", f"does not work here: {error}")
    works = mode == "wal" and seen == 1
    return Check(
        "write-ahead log", "ok" if works else "problem", "works" if works else f"the journal mode stays {mode}"
    )


def _fsync(probe: Path, kind: str) -> Check:
    """Whether a commit reaches a disk, by how long it takes."""
    took: list[float] = []
    with (probe / "probe.bin").open("wb", buffering=0) as file:
        for _ in range(FSYNCS):
            file.write(b"x" * 4_096)
            begin_s = time.perf_counter()
            os.fsync(file.fileno())
            took.append(time.perf_counter() - begin_s)
    median_s, worst_s = statistics.median(took), max(took)
    shown = f"{median_s * 1_000:.2f} ms in the middle, {worst_s * 1_000:.1f} ms at worst, of {FSYNCS}"
    if median_s < FSYNC_TOO_FAST_S and kind not in IN_MEMORY:
        return Check("fsync", "warning", f"{shown}: too fast for a disk; a power failure could lose committed work")
    if median_s > FSYNC_SLOW_S:
        return Check("fsync", "warning", f"{shown}: slow; each durable step waits for one")
    return Check("fsync", "ok", shown)


def _locks(probe: Path) -> Check:
    """Both kinds of file locks: flock for leases, POSIX locks for SQLite."""
    file = probe / "probe.lock"
    with file.open("w") as first, file.open("w") as second:
        fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            return Check("file locks", "problem", "flock does not lock here; two processes could own one run")
    with file.open("r+") as first:
        fcntl.lockf(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        other = subprocess.run([sys.executable, "-c", LOCK_PROBE, str(file)], check=False, capture_output=True)
    if other.returncode != 3:
        return Check("file locks", "problem", "POSIX locks do not lock here; SQLite is not safe on this file system")
    return Check("file locks", "ok", "work, of both kinds")
