"""Long lives: what a run costs that grows, dies in the middle, or waits with a hundred thousand others.

`python -m benchmarks.lives W4 FOLDER` makes one experiment in an empty folder, and prints what it found as one JSON
object: a value for each of the workload's measures.
"""

import asyncio
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import apsw

from cadenza import Context, Engine, EngineOptions, step, workflow

PAYLOAD_BYTES = 1_000
LONG, LONGER = 800, 3_200
WINDOW = 50
KILLED_AT, CHAIN = 50, 100
PARKED, WOKEN = 100_000, 1_000
AT_ONCE = 500

Found = dict[str, float]


# --- W4: a conversation that grows by 1 kB a step ---------------------------------------------------------------------


@step
async def reply(number: int) -> str:
    return f"{number:06d}" + "x" * (PAYLOAD_BYTES - 8)  # with its quotes, 1,000 bytes of JSON


@workflow
async def conversation(ctx: Context, turns: int) -> int:
    messages: list[str] = []
    for number in range(turns):
        messages.append(await ctx.step(reply, number))
        ticks.append(time.perf_counter())
    return sum(map(len, messages))


ticks: list[float] = []


def growth(folder: Path) -> Found:
    """W4: bytes on disk for each byte that the steps returned, and the cost of late steps over that of early ones."""

    async def run(turns: int) -> tuple[float, float]:
        path = folder / f"{turns}.db"
        ticks.clear()
        async with Engine.open(path) as engine:
            await (await engine.start(conversation, turns)).result()
            spent_s = [later - earlier for earlier, later in itertools.pairwise(ticks)]
        early, late = spent_s[WINDOW : 5 * WINDOW], spent_s[-4 * WINDOW :]
        return settled_bytes(path), statistics.median(late) / statistics.median(early)

    bytes_long, _ = asyncio.run(run(LONG))
    bytes_longer, slower = asyncio.run(run(LONGER))
    return {
        "W4-bytes-800": bytes_long / LONG,
        "W4-bytes-3200": bytes_longer / LONGER,
        "W4-slower": slower,
    }


def settled_bytes(path: Path) -> int:
    """The size of the database once its log is folded in."""
    db = apsw.Connection(str(path))
    db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    db.close()
    return sum(each.stat().st_size for each in path.parent.glob(f"{path.name}*") if each.is_file())


# --- W6: killed at step 50 of 100 -------------------------------------------------------------------------------------


@step
async def note(number: int) -> int:
    with open(os.environ["BENCH_EFFECTS"], "a") as effects:
        effects.write(f"{number} {time.time()}\n")
    if number == KILLED_AT and os.environ.get("BENCH_DIES"):
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@workflow
async def noted(ctx: Context, steps: int) -> int:
    for number in range(steps):
        await ctx.step(note, number)
    return steps


def continued(folder: Path) -> Found:
    """W6: finished steps that ran again, and seconds from the start of the next process to its first step."""
    effects, path = folder / "effects.txt", folder / "store.db"
    environ = {**os.environ, "BENCH_EFFECTS": str(effects)}
    command = [sys.executable, "-m", "benchmarks.lives", "chain", str(path)]
    first = subprocess.run(command, env={**environ, "BENCH_DIES": "1"}, check=False)
    assert first.returncode == -signal.SIGKILL, first
    began_s = time.time()
    subprocess.run(command, env=environ, check=True)
    lines = [line.split() for line in effects.read_text().splitlines()]
    numbers = [int(number) for number, _ in lines]
    # the step that killed the process had no outcome: to run it again is right
    repeated = len(numbers) - len(set(numbers)) - 1
    assert set(numbers) == set(range(CHAIN))
    return {"W6-repeated": repeated, "W6-continue": float(lines[KILLED_AT + 1][1]) - began_s}


def chain(path: Path) -> Found:
    """The process that is killed, and the one that goes on."""

    async def main() -> None:
        async with Engine.open(path, EngineOptions(adopt_all=True)) as engine:
            handle = await engine.start(noted, CHAIN, id="only", on_conflict="join")
            assert await handle.result() == CHAIN

    asyncio.run(main())
    return {}


# --- W7: a hundred thousand runs that wait ----------------------------------------------------------------------------


@step
async def prepare(number: int) -> str:
    return f"order {number} is prepared, and waits for its approval"


@workflow
async def approval(ctx: Context, number: int) -> str:
    prepared = await ctx.step(prepare, number)
    verdict = await ctx.receive("verdict", str)
    return f"{prepared}: {verdict}"


def crowd(folder: Path) -> Found:
    """W7: bytes of file a parked run; memory of the process that then serves them; seconds until 1,000 have ended."""
    path = folder / "store.db"

    async def park() -> None:
        async with Engine.open(path, EngineOptions(linger_s=0.0)) as engine:
            for first in range(0, PARKED, AT_ONCE):
                numbers = range(first, first + AT_ONCE)
                handles = await asyncio.gather(*[engine.start(approval, n, id=f"order-{n}") for n in numbers])
                await asyncio.gather(*[handle.settled() for handle in handles])

    asyncio.run(park())
    size = settled_bytes(path)
    command = [sys.executable, "-m", "benchmarks.lives", "wake", str(path)]
    woken = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {"W7-file": size / PARKED, **woken}


def wake(path: Path) -> Found:
    """The process after the restart."""

    async def main() -> Found:
        async with Engine.open(path, EngineOptions(adopt_all=True, linger_s=0.0)) as engine:
            numbers = range(0, PARKED, PARKED // WOKEN)
            began_s = time.perf_counter()
            await asyncio.gather(*[engine.signal(f"order-{n}", "verdict", "yes") for n in numbers])
            await asyncio.gather(*[engine.handle(f"order-{n}").result() for n in numbers])
            took_s = time.perf_counter() - began_s
        return {"W7-wake": took_s, "W7-memory": resident_mb()}

    return asyncio.run(main())


def resident_mb() -> float:
    """The most memory that this process has had at any time."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


EXPERIMENTS: dict[str, Callable[[Path], Found]] = {
    "W4": growth,
    "W6": continued,
    "W7": crowd,
    "chain": chain,
    "wake": wake,
}

if __name__ == "__main__":
    found = EXPERIMENTS[sys.argv[1]](Path(sys.argv[2]))
    print(json.dumps(found))
