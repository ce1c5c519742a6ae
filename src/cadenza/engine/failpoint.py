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
    "before_check",
    "before_effect",
    "after_effect",
    "after_memo_intent",
    "after_memo_effect",
    "before_delivery",
    "in_compensation",
    "in_claim",
    "in_eviction",
)
_name = ""
_left = 0
_signal = signal.SIGKILL


def arm(spec: str) -> None:
    """Set the one failpoint of this process: ``name:nth[:KILL|STOP]``; an empty ``spec`` sets none."""
    global _name, _left, _signal
    _name, _, rest = spec.partition(":")
    nth, _, signal_name = rest.partition(":")
    _left = int(nth or 1)
    _signal = getattr(signal, f"SIG{signal_name or 'KILL'}")


def failpoint(name: str) -> None:
    """Send this process the armed signal when ``name`` is reached for the n-th time."""
    global _left
    if name != _name:
        return
    _left -= 1
    if _left == 0:
        os.kill(os.getpid(), _signal)


arm(os.environ.get("CADENZA_FAILPOINT", ""))
