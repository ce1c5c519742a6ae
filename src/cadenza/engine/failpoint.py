"""Named places where a test may kill or stop this process: ``CADENZA_FAILPOINT=name:nth[:KILL|STOP]``.

Not armed, a failpoint costs one comparison. Real signals, real processes: see tests/acceptance/test_failpoints.py.
"""

from __future__ import annotations

import os
import signal

NAMES = (
    "before_commit",
    "after_commit",
    "after_intent",
    "before_effect",
    "after_effect",
    "before_delivery",
    "in_compensation",
    "in_claim",
    "in_eviction",
)
_name, _, _rest = os.environ.get("CADENZA_FAILPOINT", "").partition(":")
_nth, _, _signal = _rest.partition(":")
_left = int(_nth or 1)


def failpoint(name: str) -> None:
    """Send this process the armed signal when ``name`` is reached for the n-th time."""
    global _left
    if name != _name:
        return
    _left -= 1
    if _left == 0:
        os.kill(os.getpid(), getattr(signal, f"SIG{_signal or 'KILL'}"))
