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
    """Between ``enter`` and ``leave`` it is this process's turn to write."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._turn = os.open(folder / "turn", os.O_RDWR | os.O_CREAT, 0o666)
        self._write = os.open(folder / "write", os.O_RDWR | os.O_CREAT, 0o666)

    def enter(self) -> None:
        """Wait for this process's turn. Raises OSError where the file system gives no locks."""
        fcntl.flock(self._turn, fcntl.LOCK_EX)
        try:
            fcntl.flock(self._write, fcntl.LOCK_EX)
        finally:
            fcntl.flock(self._turn, fcntl.LOCK_UN)

    def enter_at_once(self) -> bool:
        """Take the turn if nobody has it or waits for it; says whether it was taken."""
        try:
            fcntl.flock(self._turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        try:
            fcntl.flock(self._write, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        finally:
            fcntl.flock(self._turn, fcntl.LOCK_UN)
        return True

    def leave(self) -> None:
        """Let the next one go."""
        fcntl.flock(self._write, fcntl.LOCK_UN)

    def close(self) -> None:
        os.close(self._turn)
        os.close(self._write)
