"""A process's lease on the runs that it owns (rule 5).

The lease is a row that a thread renews, also while the event loop is busy. On the same host a held file lock is the
better proof: when the process is gone, so is the lock, and its runs are taken over at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import socket
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from cadenza.engine.clock import Clock
from cadenza.engine.store import OwnerRow, Renew, Store
from cadenza.errors import StoreUnavailable

RENEWALS = 4
"""How often a lease is renewed in its own length."""


def new_owner(chance: random.Random) -> str:
    """A name for this process's worker."""
    return f"{os.getpid()}-{chance.getrandbits(24):06x}"


class FileLock:
    """Held by a living process, by file."""

    def __init__(self, folder: Path, owner: str) -> None:
        self._path = folder / f"{owner}.lock"
        try:
            folder.mkdir(exist_ok=True)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StoreUnavailable.because(error, str(self._path)) from error

    def release(self) -> None:
        """Let go of it, once."""
        file, self._file = self._file, -1
        if file >= 0:
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()
            os.close(file)


def dead_owners(folder: Path, owners: Iterable[OwnerRow], own: str) -> list[str]:
    """Owners on this host whose process is gone: their lock can be taken, or its file is no more."""
    host = socket.gethostname()
    return [each.owner for each in owners if each.host == host and each.owner != own and is_dead(folder, each.owner)]


def is_dead(folder: Path, owner: str) -> bool:
    """Whether this owner's process is gone: its lock can be taken, or its file is no more."""
    path = folder / f"{owner}.lock"
    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        return True
    finally:
        os.close(file)


class LeaseKeeper:
    """Renews the lease from a thread of its own, and lets ``look`` (the watchdog) see the loop's thread meanwhile."""

    def __init__(self, store: Store, clock: Clock, owner: str, lease_s: float, look: Callable[[], None]) -> None:
        self._store, self._clock, self._owner, self._lease_s = store, clock, owner, lease_s
        self._look = look
        self._deadline_s = self._next_s = 0.0
        self.term = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="cadenza-lease", daemon=True)
        self._host = socket.gethostname()

    def valid(self) -> bool:
        """Whether the lease certainly still holds, also after this process was stopped for a while."""
        return self._clock.elapsed_s() < self._deadline_s

    def row(self) -> OwnerRow:
        expires_at = self._clock.now() + round(self._lease_s * 1_000_000)
        return OwnerRow(self._owner, self._host, os.getpid(), expires_at)

    def start(self) -> None:
        """The first renewal is queued before this returns: no claim can be on disk without the lease that it stands
        on."""
        self.beat()
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def renewed(self, asked_s: float) -> None:
        """A renewal that was asked for at ``asked_s`` is on disk. If it came too late, a new term has begun."""
        if not self.valid():
            self.term += 1
        self._deadline_s = asked_s + self._lease_s * 0.9  # a margin for clocks that do not run alike

    def _serve(self) -> None:
        while not self._stop.is_set():
            self._stop.wait(self.beat())

    def beat(self) -> float:
        """Renew the lease if it is time, and look at the loop's thread; returns the seconds until the next beat."""
        now_s = self._clock.elapsed_s()
        if now_s >= self._next_s:
            self._next_s = now_s + self._lease_s / RENEWALS
            self._renew(now_s)
        self._look()
        return min(self._lease_s / RENEWALS, 0.5)

    def _renew(self, asked_s: float) -> None:
        def done(_: None, error: Exception | None) -> None:
            if error is None:
                self.renewed(asked_s)

        self._store.submit(Renew(self.row()), done, inline=True)
