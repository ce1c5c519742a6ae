"""The database, and what it has no room for."""

from __future__ import annotations

import errno

from cadenza.errors.root import CadenzaError


class InboxFull(CadenzaError):
    """Too many messages wait for one run."""

    def __init__(self, run_id: str, inbox_max: int) -> None:
        self.run_id, self.inbox_max = run_id, inbox_max
        super().__init__(run_id, inbox_max)

    def __str__(self) -> str:
        return f"{self.inbox_max:,} messages already wait for run {self.run_id}; send again when it has read some."


class StoreError(CadenzaError):
    """The database."""


class Fenced(StoreError):
    """A write came from an owner that no longer has the run. Nothing of it was written."""

    def __init__(self, run: object, epoch: int, detail: str) -> None:
        self.run, self.epoch, self.detail = run, epoch, detail
        super().__init__(run, epoch, detail)

    def __str__(self) -> str:
        return f"run {self.run} is no longer owned in epoch {self.epoch}: {self.detail}"


DISK_FULL, MAKE_ROOM = "the disk is full", "Free some space and start again: runs go on where they were."
READ_ONLY, WRITABLE = "it is read-only", "Give this user the right to write to it and to its folder."


class StoreUnavailable(StoreError):
    """The database cannot be used now (disk full, read-only, locked). What was accepted before is safe."""

    def __init__(self, where: str, problem: str, hint: str) -> None:
        self.where, self.problem, self.hint = where, problem, hint
        super().__init__(where, problem, hint)

    @classmethod
    def because(cls, error: OSError, where: str) -> StoreUnavailable:
        """What the operating system's ``error`` means for the database at ``where``."""
        where = str(error.filename or where)
        match error.errno:
            case errno.ENOSPC | errno.EDQUOT:
                return cls(where, DISK_FULL, MAKE_ROOM)
            case errno.EACCES | errno.EPERM | errno.EROFS:
                return cls(where, READ_ONLY, WRITABLE)
            case _:
                problem = (error.strerror or str(error)).lower()
                return cls(where, problem, "Check the path and the disk, then start again.")

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}. Nothing that was accepted is lost. {self.hint}"


class KeyMissing(StoreUnavailable):
    """The file is encrypted with a key that is not given."""


class NoStore(StoreError):
    """There is no store where one is to be read."""

    def __init__(self, where: str) -> None:
        self.where = where
        super().__init__(where)

    def __str__(self) -> str:
        return (
            f"there is no store at {self.where}. Run a workflow first (cadenza run FILE), go to the folder that has "
            "it, or name it with --store or $CADENZA_STORE."
        )


class StoreCorrupt(StoreError):
    """The file is damaged, or no database at all."""

    def __init__(self, where: str, problem: str, hint: str = "") -> None:
        self.where, self.problem = where, problem
        self.hint = hint or (
            "Stop its workers and copy the file. Then restore a backup, or save what can be read: "
            f"sqlite3 {where} .recover | sqlite3 recovered.db"
        )
        super().__init__(where, problem)

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}. {self.hint}"


class StoreVersion(StoreError):
    """The file was written by a newer Cadenza, or by another program."""

    def __init__(self, where: str, problem: str) -> None:
        self.where, self.problem = where, problem
        super().__init__(f"{where}: {problem}")
