"""Which simulated process is running now: how code of a step finds the world that it acts upon."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.process import Process

_running: list[Process] = []


class running:  # noqa: N801 - used as a function, and a generator would cost more than the callback that it wraps
    """``with running(process):`` its code runs."""

    __slots__ = ("_process",)

    def __init__(self, process: Process) -> None:
        self._process = process

    def __enter__(self) -> None:
        _running.append(self._process)

    def __exit__(self, *_: object) -> None:
        _running.pop()


def deployed() -> bool:
    """Whether the code that is running now has been mended; outside of any process it has."""
    return not _running or _running[-1].world.deployed


def current() -> Process:
    """The process whose code is running now; it is alive, since nothing of a dead one ever runs."""
    process = _running[-1]
    assert process.alive, f"{process.name} is dead, and its code runs"
    return process
