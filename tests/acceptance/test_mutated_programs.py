"""Programs that are changed at random under a run that waits: `check-deploy` says what the engine then does.

And whatever was changed: a run that completes has a value that the old or the new program alone could give.
"""

import asyncio
import contextlib
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from cadenza import RunBlocked, RunFailed
from cadenza.durable import events
from cadenza.engine.deploy_check import check_runs, open_runs
from cadenza.errors import UsageError
from tests.acceptance.deploys import deploy, engine

Op = tuple[str, int]
KINDS = ("plus", "twice", "child", "sleep", "rounds", "wait")
MODULE = "mutated"
HEAD = """
import asyncio
from cadenza import Context, step, workflow

@step
async def mutated_plus(n: int) -> int:
    return n + 1

@step(effect="read")
async def mutated_twice(n: int) -> int:
    return n * 2

@workflow
async def mutated_child(ctx: Context, n: int) -> int:
    return await ctx.step(mutated_plus, n + 100)

@workflow
async def mutated_run(ctx: Context) -> list[int]:
    found = []
"""
LINES = {
    "plus": "    found.append(await ctx.step(mutated_plus, {n}))\n",
    "twice": "    found.append(await ctx.step(mutated_twice, {n}))\n",
    "child": "    found.append(await ctx.run(mutated_child, {n}))\n",
    "sleep": "    await asyncio.sleep(0.00{n})\n    found.append({n})\n",
    "rounds": "    for n in range({n}):\n        found.append(await ctx.step(mutated_plus, n))\n",
    "wait": "    found.append(await ctx.receive('go', int))\n",
}
ops = st.tuples(st.sampled_from(KINDS), st.integers(1, 3))
programs = st.lists(ops, min_size=2, max_size=6).map(lambda program: [*program, ("wait", 1)])


@st.composite
def mutated(draw: Any, program: list[Op]) -> list[Op]:
    """One change: another kind, input, length or count; an operation more or less; two in another order."""
    new = list(program)
    place = draw(st.integers(0, len(new) - 1))
    change = draw(st.sampled_from(("kind", "number", "insert", "delete", "swap")))
    kind, number = new[place]
    if change == "kind":
        new[place] = draw(st.sampled_from(KINDS)), number
    elif change == "number":
        new[place] = kind, number % 3 + 1
    elif change == "insert":
        new.insert(place, draw(ops))
    elif change == "delete":
        del new[place]
    else:
        new[place : place + 2] = new[place : place + 2][::-1]
    return new


def source(program: list[Op]) -> str:
    return HEAD + "".join(LINES[kind].format(n=n) for kind, n in program) + "    return found\n"


def value(program: list[Op]) -> list[int]:
    """What a program gives by itself, if the messages are 0, 1, 2 …"""
    found: list[int] = []
    words = 0
    for kind, n in program:
        if kind == "wait":
            found.append(words)
            words += 1
        else:
            found += {"plus": [n + 1], "twice": [n * 2], "child": [n + 101], "sleep": [n]}.get(kind, []) or [
                each + 1 for each in range(n)
            ]
    return found


@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(st.data())
def test_the_verdict_on_a_changed_program_is_what_the_engine_does(data: st.DataObject) -> None:
    old = data.draw(programs)
    new = data.draw(mutated(old))
    waits = sum(kind == "wait" for kind, _ in old)
    read = data.draw(st.integers(0, waits - 1))
    unread = data.draw(st.integers(0, 2))
    with tempfile.TemporaryDirectory() as folder:
        verdict, end = asyncio.run(changed(Path(folder) / "runs.db", old, new, read, unread))
    if isinstance(end, list):
        assert verdict == "goes_on"
        assert end in (value(old), value(new))
    else:
        assert verdict == end


async def changed(path: Path, old: list[Op], new: list[Op], read: int, unread: int) -> tuple[str, Any]:
    """The verdict, and how the run then ended: its value, "blocks" or "fails"."""
    program = deploy(source(old), MODULE)
    async with engine(path) as running:
        handle = await running.start(program.mutated_run)
        for n in range(read):
            await handle.signal("go", n)
        while not (waits_for_word(running.journal(handle.run_id)) == read and handle.row.status == "waiting"):
            await asyncio.sleep(0.002)
    async with engine(path, worker=False) as sending:
        for n in range(read, read + unread):
            await sending.signal(handle.run_id, "go", n)
    program = deploy(source(new), MODULE)
    async with engine(path, worker=False) as looking:
        (verdict,) = check_runs(looking.store, [each for each in open_runs(looking.store) if not each.parent])
    async with engine(path) as running:
        with contextlib.suppress(UsageError):  # it has ended
            for n in range(read + unread, len(new) + 3):
                await running.signal(handle.run_id, "go", n)
        again = await running.resume(handle.run_id)
        try:
            return verdict.outcome, await again.result()
        except RunBlocked:
            return verdict.outcome, "blocks"
        except RunFailed:
            return verdict.outcome, "fails"


def waits_for_word(journal: list[events.AnyEvent]) -> int:
    """How many messages the run has read, if it is parked for the next; else -1."""
    last = journal[-1]
    if not isinstance(last, events.Parked) or not last.waiting or not last.waiting[0].startswith("@receive"):
        return -1
    return sum(isinstance(each, events.MessageReceived) for each in journal)
