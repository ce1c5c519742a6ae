"""What the exit code of every command means; ``cadenza --help`` prints this table."""

from __future__ import annotations

OK = 0
FAILED = 1
USAGE = 2
WAITING = 3
BLOCKED = 4
STORE = 5
BUG = 70
INTERRUPTED = 130

TABLE = (
    (OK, "done; the run completed"),
    (FAILED, "the run failed or was cancelled; check found errors; doctor found a problem"),
    (USAGE, "bad input: nothing was started or changed"),
    (WAITING, "the run waits for a person or a message, and is parked"),
    (BLOCKED, "the run is blocked: its code must be mended, then cadenza resume; check-deploy: some would be"),
    (STORE, "the store cannot be used: missing, full, read-only, damaged, newer"),
    (BUG, "a bug in Cadenza itself"),
    (INTERRUPTED, "Ctrl-C or SIGTERM: the run is parked, nothing is lost"),
)
