"""A disk that is watched: what SQLite writes and syncs, and what would be left of it after a power cut.

A shim around SQLite's own VFS, so that production code runs on it unchanged. Writes go to the real file; beside that
the shim keeps, for each file, what was synced and what was written since.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import apsw

SECTOR = 512


class Image:
    """One file: its synced content, and the writes that a power cut may take."""

    def __init__(self, content: bytes) -> None:
        self.synced = bytearray(content)
        self.unsynced: list[tuple[int, bytes | None]] = []  # None: truncated there

    def sync(self) -> None:
        for offset, data in self.unsynced:
            _put(self.synced, offset, data)
        self.unsynced.clear()

    def after_power_cut(self, chance: Random) -> bytes:
        """Each sector that was written and not synced is there, or it is not."""
        content = bytearray(self.synced)
        for offset, data in self.unsynced:
            sectors = (
                [None] if data is None else [data[begin : begin + SECTOR] for begin in range(0, len(data), SECTOR)]
            )
            for number, sector in enumerate(sectors):
                if chance.random() < 0.5:
                    _put(content, offset + number * SECTOR, sector)
        return bytes(content)


class Disk(apsw.VFS):
    """Registered as the default VFS while it is in use. ``before_write`` may refuse to write so many bytes."""

    def __init__(self) -> None:
        self.syncs: Counter[str] = Counter()
        self.images: dict[str, Image] = {}
        self.lock = threading.Lock()
        self.before_write: Callable[[int], None] = lambda size: None
        self.base = apsw.vfs_names()[0]
        super().__init__("watched", base=self.base, makedefault=True)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> "WatchedFile":  # noqa: N802 - the name that SQLite gives it
        return WatchedFile(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802 - the name that SQLite gives it
        super().xDelete(filename, syncdir)
        with self.lock:
            self.images.pop(filename, None)

    def syncs_of(self, suffix: str) -> int:
        """How often files whose name ends so were synced."""
        with self.lock:
            return sum(count for name, count in self.syncs.items() if name.endswith(suffix))

    def after_power_cut(self, before: Path, after: Path, seed: int) -> None:
        """Writes into the folder ``after`` what the files in ``before`` would hold if the power were cut now."""
        chance = Random(seed)
        with self.lock:
            for name, image in self.images.items():
                if Path(name).parent == before:
                    (after / Path(name).name).write_bytes(image.after_power_cut(chance))


class WatchedFile(apsw.VFSFile):
    def __init__(self, disk: Disk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self.disk = disk
        self.name = name.filename() if isinstance(name, apsw.URIFilename) else name or ""
        super().__init__(disk.base, name, flags)
        with disk.lock:
            if self.name and self.name not in disk.images:
                disk.images[self.name] = Image(Path(self.name).read_bytes())

    @property
    def image(self) -> Image:
        return self.disk.images[self.name]

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - the name that SQLite gives it
        self.disk.before_write(len(data))
        super().xWrite(data, offset)
        with self.disk.lock:
            self.image.unsynced.append((offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 - the name that SQLite gives it
        super().xTruncate(newsize)
        with self.disk.lock:
            self.image.unsynced.append((newsize, None))

    def xSync(self, flags: int) -> None:  # noqa: N802 - the name that SQLite gives it
        super().xSync(flags)
        with self.disk.lock:
            self.disk.syncs[self.name] += 1
            self.image.sync()


@contextmanager
def watched_disk() -> Iterator[Disk]:
    """All databases opened within are watched."""
    disk = Disk()
    try:
        yield disk
    finally:
        disk.unregister()


def _put(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del content[offset:]
        return
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data
