"""Injected failures: an attempt of a step that raises, takes too long, or sees its process die."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

When = Literal["before", "after"]


@dataclass(frozen=True)
class Fault:
    """What happens to the ``nth`` attempt of a step, before or after it does its work."""

    name: str
    nth: int
    when: When
    kind: Literal["fail", "time_out", "die"]
    error: BaseException | None = None

    def hits(self, name: str, count: int) -> bool:
        return self.name == name and self.nth == count

    async def strike(self, timeout_s: float | None, kill: Callable[[], None]) -> None:
        """Let it happen, in the place of the step's function. ``kill`` ends the process."""
        match self.kind:
            case "fail":
                assert self.error is not None
                raise self.error
            case "time_out":
                if timeout_s is None:
                    raise TimeoutError("injected: it took too long")
                await asyncio.sleep(timeout_s + 1.0)
            case "die":
                kill()
                await asyncio.get_running_loop().create_future()  # a dead process does nothing more
