"""Fair turns for the writers of one file.

SQLite's waiters poll, so a process that writes all the time would starve the others. Two file locks make a turnstile:
whoever wants to write holds ``turn`` while it waits for ``write``; a process that has just written must pass ``turn``
again, and so lets whoever waits go first. Locks belong to open files, and end with the process.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class Turnstile:
    """``with turnstile:`` is this process's turn to write."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._turn = os.open(folder / "turn", os.O_RDWR | os.O_CREAT, 0o666)
        self._write = os.open(folder / "write", os.O_RDWR | os.O_CREAT, 0o666)

    def __enter__(self) -> None:
        fcntl.flock(self._turn, fcntl.LOCK_EX)
        fcntl.flock(self._write, fcntl.LOCK_EX)
        fcntl.flock(self._turn, fcntl.LOCK_UN)

    def __exit__(self, *_: object) -> None:
        fcntl.flock(self._write, fcntl.LOCK_UN)

    def close(self) -> None:
        os.close(self._turn)
        os.close(self._write)
