"""Options of an engine: one frozen struct."""

from __future__ import annotations

import msgspec


class Retention(msgspec.Struct, frozen=True):
    """How many days ended runs are kept, by their status; ``None`` keeps them for ever. Workers purge what is older."""

    completed_days: float | None = None
    failed_days: float | None = None
    cancelled_days: float | None = None


class Alerts(msgspec.Struct, frozen=True):
    """Who is told, at least once, that a run has failed or is blocked.

    Attributes:
        command: is started with the alert as JSON on its standard input; exit code 0 is a delivery.
        url: gets the alert by POST, as JSON; a status of 2xx is a delivery.
    """

    command: str = ""
    url: str = ""


class EngineOptions(msgspec.Struct, frozen=True):
    """How an engine works. All bounds are meant to be met: each has an error or a pause of its own.

    Attributes:
        worker: whether this engine runs workflows; without it, it only starts, signals and reads.
        adopt_all: whether it takes any run of the store, or only those that it started or resumed, and their children.
        slots: how many runs are in memory at once.
        threads: how many sync steps run at once.
        lease_s: seconds after which the runs of a silent worker may be taken over.
        poll_busy_s, poll_idle_s: seconds between two looks at other processes' commits, with and without work.
        linger_s: seconds that an idle run stays in memory before it is parked, while there is room.
        stall_s: seconds that workflow code may compute without yielding.
        journal_events_max, journal_bytes_max: bounds of one generation's journal; half of it is warned of.
        retention: how long ended runs are kept; for ever by default.
        alerts: who is told of runs that fail or block in this engine; nobody by default.
        verify_replay: replay every finished run and compare (development mode).
    """

    worker: bool = True
    adopt_all: bool = False
    slots: int = 1_000
    threads: int = 32
    lease_s: float = 10.0
    poll_busy_s: float = 0.005
    poll_idle_s: float = 0.05
    linger_s: float = 0.2
    stall_s: float = 10.0
    journal_events_max: int = 10_000
    journal_bytes_max: int = 8_000_000
    retention: Retention = Retention()
    alerts: Alerts | None = None
    verify_replay: bool = False
