"""Tells people that a run has failed or is blocked: by a command, a webhook, or both.

The alert is written in the transaction in which the run fails, and is deleted when it has been delivered: at least
once, whatever crashes in between. A worker takes an alert for as long as a delivery may take; one that cannot be
delivered is tried again later, by whichever worker comes first, and given up after some attempts. Its ``id`` tells
repetitions.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shlex
from typing import TYPE_CHECKING, Any

import msgspec

from cadenza.engine.options import Alerts
from cadenza.engine.store import Store, perform
from cadenza.engine.upkeep import AlertRow, DropAlert, TakeAlert
from cadenza.errors import CadenzaError, UsageError

if TYPE_CHECKING:
    from cadenza.engine.environment import Environment

log = logging.getLogger("cadenza")
ATTEMPTS_MAX = 6
DELIVERY_S = 30.0
FIRST_DELAY_S, FACTOR = 40.0, 3
"""Longer than a delivery may take, so that no other worker tries meanwhile."""
LOOK_S = 0.25
TOGETHER = 8


class NotDelivered(Exception):
    """The command or the webhook has refused an alert."""


def check_alerts(alerts: Alerts) -> None:
    """Refuse a command or a URL that can never work. Raises UsageError."""
    if alerts.url and not alerts.url.startswith(("http://", "https://")):
        raise UsageError(f"{alerts.url!r} is no webhook; it begins with http:// or https://")
    try:
        words = shlex.split(alerts.command)
    except ValueError as error:
        raise UsageError(f"the alert command {alerts.command!r} cannot be read: {error}") from None
    if alerts.command and not words:
        raise UsageError("the alert command is empty")


class Herald:
    """A worker's part: delivers what is due, some at a time."""

    def __init__(self, env: Environment) -> None:
        self._env, self._alerts = env, env.options.alerts
        self._tasks: set[asyncio.Task[None]] = set()
        self._busy: set[int] = set()
        self._next_s = 0.0 if self._alerts is not None else float("inf")
        if self._alerts is not None:
            check_alerts(self._alerts)

    def look(self) -> None:
        """Begin to deliver what is due; called on the pulse."""
        elapsed_s = self._env.clock.elapsed_s()
        if elapsed_s < self._next_s:
            return
        self._next_s = elapsed_s + LOOK_S
        for row in self._env.store.alerts(self._env.clock.now(), TOGETHER):
            if row.id not in self._busy and len(self._busy) < TOGETHER:
                self._busy.add(row.id)
                task = self._env.loop.create_task(self._deliver(row))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _deliver(self, row: AlertRow) -> None:
        assert self._alerts is not None
        store, attempt = self._env.store, row.attempts + 1
        try:
            due_at = self._env.clock.now() + round(FIRST_DELAY_S * FACTOR**row.attempts * 1_000_000)
            if not await perform(store, TakeAlert(row.id, row.attempts, due_at)):
                return
            await _send(self._alerts, row, attempt)
            await perform(store, DropAlert(row.id))
        except NotDelivered as error:
            await _give_up(store, row, attempt, error)
        except CadenzaError as error:
            log.warning("the alert for run %s may be repeated: %s", row.run_id, error)
        finally:
            self._busy.discard(row.id)

    async def close(self) -> None:
        """Stop; what is under way is delivered again later."""
        self._next_s = float("inf")
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _give_up(store: Store, row: AlertRow, attempt: int, error: Exception) -> None:
    log.warning("the alert for run %s was not delivered (attempt %d): %s", row.run_id, attempt, error)
    if attempt >= ATTEMPTS_MAX:
        log.error("the alert for run %s (%s) is given up after %d attempts", row.run_id, row.status, attempt)
        with contextlib.suppress(CadenzaError):
            await perform(store, DropAlert(row.id))


async def _send(alerts: Alerts, row: AlertRow, attempt: int) -> None:
    """To each receiver. Raises NotDelivered."""
    fields: dict[str, Any] = {
        name: getattr(row, name) for name in ("id", "run_id", "workflow", "status", "detail", "at")
    }
    body = msgspec.json.encode(fields | {"attempt": attempt})
    try:
        async with asyncio.timeout(DELIVERY_S):
            if alerts.command:
                await _call(alerts.command, body, row)
            if alerts.url:
                await _post(alerts.url, body)
    except TimeoutError:
        raise NotDelivered(f"no answer in {DELIVERY_S:g} s") from None
    except OSError as error:
        raise NotDelivered(str(error)) from error


async def _call(command: str, body: bytes, row: AlertRow) -> None:
    """The command gets the alert as JSON on its standard input, and its run in the environment."""
    process = await asyncio.create_subprocess_exec(
        *shlex.split(command),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"CADENZA_RUN_ID": row.run_id, "CADENZA_STATUS": row.status},
    )
    try:
        _, said = await process.communicate(body)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        words = " ".join(said.decode(errors="replace").split())[-300:]
        raise NotDelivered(f"{command!r} ended with exit code {process.returncode}{words and ': '}{words}")


async def _post(url: str, body: bytes) -> None:
    import httpx2  # lazy: only who has a webhook pays for it

    try:
        async with httpx2.AsyncClient(timeout=DELIVERY_S) as client:
            answer = await client.post(url, content=body, headers={"content-type": "application/json"})
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise NotDelivered(f"{url}: {type(error).__name__} {error}".rstrip()) from error
    if not answer.is_success:
        raise NotDelivered(f"{url} answered {answer.status_code}")
