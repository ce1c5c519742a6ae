"""Who is well: heartbeats of the processes that run agents, and probes of instances that can be asked.

A worker's process says with every beat that it is there; whoever has not been heard of for STALE_S is taken to be gone,
at once if it ran on this host and has ended. An instance with a ``health_url`` is asked by the workers with every beat.
What is said here is shown and filters candidates; whether calls succeed is the business of breakers.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import urllib.parse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from cadenza.engine.catalogue import Catalogue
from cadenza.errors import CadenzaError
from cadenza.routing import kept
from cadenza.routing.instance import Instance

if TYPE_CHECKING:
    from cadenza.routing.registry import Registry

PROBE_S_MAX = 5.0
PROBES_AT_ONCE = 16
ANSWER_BYTES_MAX = 64_000
SHOWN_MAX = 120


async def beats(catalogue: Catalogue, worker: str, known: Registry) -> None:
    """Keep what this process has, beat for it, and probe, until it is cancelled."""
    keeper = kept.Keeper(catalogue, worker)
    try:
        while True:
            if known.own():
                with contextlib.suppress(CadenzaError):  # the store is in trouble: others say so
                    await asyncio.to_thread(_beat, keeper, known)
                    await probe_due(known, catalogue)
            await asyncio.sleep(kept.BEAT_S)
    finally:
        with contextlib.suppress(CadenzaError):
            keeper.leave(known.now())


def _beat(keeper: kept.Keeper, known: Registry) -> None:
    keeper.beat(known.own(), known.now())


async def probe_due(known: Registry, catalogue: Catalogue) -> None:
    """Ask those that have a health URL and were not asked within the last beat, by whomever. Raises StoreError."""
    now = known.now()
    asked = dict(catalogue.read("SELECT key, probed_at FROM registry_probe"))
    due = [
        each
        for each in known.instances(catalogue)
        if each.health_url and now - asked.get(each.key, 0) >= kept.BEAT_S * kept.US
    ]
    await probe_all(known, catalogue, due)


async def probe_all(
    known: Registry, catalogue: Catalogue | None, instances: Sequence[Instance]
) -> dict[str, kept.Probe]:
    """Ask them all, a few at once; by key, without those that cannot be asked. It is kept, if there is a catalogue."""
    room = asyncio.Semaphore(PROBES_AT_ONCE)

    async def one(instance: Instance) -> tuple[str, kept.Probe] | None:
        async with room:
            found = await probe(instance, known.now)
        if found is not None and catalogue is not None:
            await asyncio.to_thread(kept.write_probe, catalogue, instance.key, found)
        return None if found is None else (instance.key, found)

    return dict(filter(None, await asyncio.gather(*map(one, instances))))


async def probe(instance: Instance, now: Callable[[], int]) -> kept.Probe | None:
    """Ask one, at its health URL (2xx is well) or else at the host of its endpoint (any answer below 500 is)."""
    url, method = instance.health_url, "GET"
    if not url:
        endpoint = str(getattr(instance.agent, "url", ""))
        parts = urllib.parse.urlsplit(endpoint)
        if parts.scheme not in ("http", "https"):
            return None
        url, method = f"{parts.scheme}://{parts.netloc}/", "HEAD"
    began_s, asked_at = time.monotonic(), now()
    problem = await _problem(url, method)
    latency_s = round(time.monotonic() - began_s, 4)
    return kept.Probe(asked_at, 0 if problem else asked_at, None if problem else latency_s, problem)


async def _problem(url: str, method: str) -> str:
    from cadenza.agents import wire
    from cadenza.agents.operation import Message

    try:
        async with asyncio.timeout(PROBE_S_MAX):
            reply = await wire.exchange(Message(method, url, {}, b""), None, "", bytes_max=ANSWER_BYTES_MAX)
    except TimeoutError:
        return f"{url} has not answered within {PROBE_S_MAX:g} s"
    except wire.TooLong:
        return ""
    except CadenzaError as error:
        return f"{url}: {' '.join(str(error).split())[:SHOWN_MAX]}"
    well = 200 <= reply.status < 300 if method == "GET" else reply.status < 500
    return "" if well else f"{url} answered {reply.status}: {' '.join(reply.text.split())[:SHOWN_MAX]}".rstrip(": ")
