"""Export and import: a run leaves one store whole, is itself in another, and no damaged file gets in."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cadenza import Answer, Context, Engine, EngineOptions, HumanTask, RunFailed, step, workflow
from cadenza.durable.define import find_workflow
from cadenza.durable.machine import Machine
from cadenza.engine.archive import Imported, read_archive
from cadenza.engine.store import Filter
from cadenza.errors import ImportRefused
from tests.acceptance.commands import Project

done: list[str] = []


@step
async def double(number: int) -> int:
    done.append(step.key())
    return 2 * number


@step
async def large(length: int) -> str:
    return "x" * length


@step
async def broken(number: int) -> int:
    raise ValueError(f"no {number}")


@workflow
async def child(ctx: Context, number: int) -> int:
    return await ctx.step(double, number)


@workflow
async def parent(ctx: Context, number: int) -> int:
    await ctx.step(large, 40_000)
    return sum(await asyncio.gather(*[ctx.run(child, each) for each in range(number)]))


@workflow
async def failing(ctx: Context, number: int) -> int:
    return await ctx.step(broken, number)


@workflow
async def continued(ctx: Context, number: int) -> int:
    await ctx.step(double, number)
    if number < 3:
        ctx.continue_as_new(number + 1)
    return number


@workflow
async def asking(ctx: Context, number: int) -> str:
    twice = await ctx.step(double, number)
    word = await ctx.receive("word", str)
    answer = await ctx.ask(HumanTask(title="Go on?"))
    return f"{twice} {word} {answer.approved}"


async def finish(file: Path, flow: Any, number: int, **fields: Any) -> list[bytes]:
    """Run a workflow to its end, and export the run."""
    async with Engine.open(file) as engine:
        handle = await engine.start(flow, number, **fields)
        try:
            await handle.result()
        except RunFailed:
            assert flow is failing
        return list(engine.export(handle.run_id))


async def take(file: Path, lines: list[bytes], **fields: Any) -> Imported:
    async with Engine.open(file, EngineOptions(worker=False)) as engine:
        return await engine.import_(lines, "run.jsonl", **fields)


async def journals(file: Path) -> dict[str, list[Any]]:
    async with Engine.open(file, EngineOptions(worker=False)) as engine:
        return {row.run_id: engine.journal(row.run_id) for row in engine.runs(Filter(limit=100))}


@pytest.mark.parametrize(("flow", "runs"), [(parent, 5), (failing, 1), (continued, 1)])
def test_a_run_comes_back_whole_and_replays_to_the_same_end(flow: Any, runs: int, tmp_path: Path) -> None:
    lines = asyncio.run(finish(tmp_path / "one.db", flow, 4 if flow is parent else 1, id="order-1"))
    imported = asyncio.run(take(tmp_path / "two.db", lines))
    assert (len(imported.new), imported.known) == (runs, [])
    journal = asyncio.run(journals(tmp_path / "two.db"))
    assert journal == asyncio.run(journals(tmp_path / "one.db"))

    async def replayed() -> None:
        async with Engine.open(tmp_path / "two.db", EngineOptions(worker=False)) as engine:
            for row in engine.runs(Filter(limit=100)):
                machine = Machine(find_workflow(row.workflow))
                machine.replay(engine.store.events(row.no, row.first_seq))  # raises if its ending is another one
                assert machine.finished
            again = list(engine.export("order-1"))
            assert [timeless(line) for line in again] == [timeless(line) for line in lines]

    asyncio.run(replayed())


def timeless(line: bytes) -> bytes:
    """The header says when it was exported, and every chain goes on from it."""
    return re.sub(rb',"chain":"\w+"|,"exported_at":\d+', b"", line)


def test_what_is_here_already_and_the_same_is_left_as_it_is(tmp_path: Path) -> None:
    lines = asyncio.run(finish(tmp_path / "one.db", parent, 2))
    imported = asyncio.run(take(tmp_path / "one.db", lines))
    assert (imported.new, len(imported.known)) == ([], 3)


async def parked(file: Path) -> list[bytes]:
    """A run that waits for a person, with a letter it has not read and a key it has seen."""
    async with Engine.open(file, EngineOptions(linger_s=0.01)) as engine:
        handle = await engine.start(asking, 4)
        await handle.settled()
    async with Engine.open(file, EngineOptions(worker=False)) as engine:
        await engine.signal(handle.run_id, "word", "hello", key="first")
        return list(engine.export(handle.run_id))


def test_a_run_that_has_not_ended_needs_a_word_and_goes_on_where_it_was(tmp_path: Path) -> None:
    lines = asyncio.run(parked(tmp_path / "one.db"))
    done.clear()
    with pytest.raises(ImportRefused, match="two stores must not both go on with it") as caught:
        asyncio.run(take(tmp_path / "two.db", lines))
    assert "--take-over" in str(caught.value)
    assert asyncio.run(journals(tmp_path / "two.db")) == {}
    (run_id,) = asyncio.run(take(tmp_path / "two.db", lines, take_over=True)).new

    async def go_on() -> str:
        async with Engine.open(tmp_path / "two.db", EngineOptions(linger_s=0.01)) as engine:
            await engine.signal(run_id, "word", "ignored", key="first")
            handle = await engine.resume(run_id)
            await handle.settled()
            ((row, _),) = engine.tasks(run_id)
            await engine.answer(run_id, row.path, Answer(approved=True, by="Ada"))
            return await handle.result()

    assert asyncio.run(go_on()) == "8 hello True"
    assert done == [], "what was done there is not done again here"


def test_another_journal_of_a_run_is_refused(tmp_path: Path) -> None:
    early = asyncio.run(parked(tmp_path / "one.db"))
    asyncio.run(take(tmp_path / "two.db", early, take_over=True))

    async def go_on() -> list[bytes]:
        async with Engine.open(tmp_path / "one.db", EngineOptions(linger_s=0.01)) as engine:
            (row,) = engine.runs()
            await (await engine.resume(row.run_id)).settled()
            return list(engine.export(row.run_id))

    with pytest.raises(ImportRefused, match="this store has that run already"):
        asyncio.run(take(tmp_path / "two.db", asyncio.run(go_on()), take_over=True))


# --- bad files --------------------------------------------------------------------------------------------------------


def chained(bodies: list[bytes]) -> list[bytes]:
    """Lines that follow each other as in a real export: what somebody could write who knows how."""
    chain, lines = b"", list[bytes]()
    for body in bodies:
        chain = hashlib.sha256(chain + body[:-1]).hexdigest().encode()
        lines.append(body[:-1] + b',"chain":"' + chain + b'"}\n')
    return lines


def bodies(lines: list[bytes]) -> list[bytes]:
    return [re.sub(rb',"chain":"\w+"}\n$', b"}", line) for line in lines]


def forged(edit: Callable[[list[bytes]], list[bytes]]) -> Callable[[list[bytes]], list[bytes]]:
    return lambda lines: chained(edit(bodies(lines)))


def replaced(old: bytes, new: bytes) -> Callable[[list[bytes]], list[bytes]]:
    def edit(lines: list[bytes]) -> list[bytes]:
        assert any(old in line for line in lines), old
        return [line.replace(old, new) for line in lines]

    return edit


CHANGED = "it was changed or damaged, or lines before it were added, moved or removed"
BAD = {
    "empty": (lambda _: [], "run.jsonl: the file is empty"),
    "text": (lambda _: [b"Dear Sir,\n"], "line 1: it does not begin an export of Cadenza"),
    "binary": (lambda _: [b"\x00\xff\x80" * 100], "line 1: it does not begin an export of Cadenza"),
    "other JSON": (lambda _: [b'{"type": "run_started"}\n'], "line 1: it does not begin an export of Cadenza"),
    "a list": (lambda _: [b"[1]\n"], "line 1: it does not begin an export of Cadenza"),
    "no header": (lambda lines: lines[1:], "line 1: it does not begin an export of Cadenza"),
    "newer format": (forged(replaced(b'"format":1', b'"format":2')), "line 1: written by a newer Cadenza"),
    "newer schema": (forged(replaced(b'"schema":1', b'"schema":9')), "line 1: written by a newer Cadenza"),
    "an edited value": (replaced(b'"value":"OA=="', b'"value":"OQ=="'), f"line 4: {CHANGED}"),
    "an edited chain": (replaced(b'"chain":"', b'"chain":"0'), "line 1: it does not begin an export of Cadenza"),
    "a removed line": (lambda lines: lines[:3] + lines[4:], f"line 4: {CHANGED}"),
    "moved lines": (lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]], f"line 3: {CHANGED}"),
    "a doubled line": (lambda lines: [*lines[:3], lines[2], *lines[3:]], f"line 4: {CHANGED}"),
    "pretty-printed": (lambda lines: [json.dumps(json.loads(each)).encode() + b"\n" for each in lines], "line 1: "),
    "cut at a line": (lambda lines: lines[:-1], "the file is cut off"),
    "cut in a line": (lambda lines: [*lines[:3], lines[3][:40]], f"line 4: {CHANGED}"),
    "more behind": (lambda lines: [*lines, lines[-1]], f"line 7: {CHANGED}"),
    "two exports": (lambda lines: lines + lines, f"line 7: {CHANGED}"),
    "an unknown event": (forged(replaced(b"step_completed", b"step_dreamt")), "line 4: this version cannot read it"),
    "an unknown field": (
        forged(replaced(b'"path":"double#1"', b'"path":"double#1","mood":"good"')),
        "line 4: it says things that this version does not know",
    ),
    "a missing event, forged": (forged(lambda lines: lines[:3] + lines[4:]), "line 4: event 2 is missing"),
    "a wrong count, forged": (forged(replaced(b'"events":3', b'"events":4')), "a line of kind 'event' should be here"),
    "more behind, forged": (forged(lambda lines: [*lines, lines[-1]]), "line 7: there is more after the last line"),
    "a wrong end, forged": (forged(replaced(b'"lines":6', b'"lines":7')), "it counts 7 lines"),
    "not ended after all": (forged(replaced(b'"status":"completed"', b'"status":"ready"')), "line 2: run "),
    "a made-up status": (forged(replaced(b'"status":"completed"', b'"status":"happy"')), "line 2: this version cannot"),
    "a run twice": (
        forged(lambda lines: [lines[0].replace(b'"runs":1', b'"runs":2'), *lines[1:5], *lines[1:5], lines[-1]]),
        "is there twice",
    ),
}  # fmt: skip
"""Each file, and what is said of it."""


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_with_its_line_and_nothing_is_written(name: str, tmp_path: Path) -> None:
    spoil, said = BAD[name]
    lines = spoil(asyncio.run(finish(tmp_path / "one.db", child, 4)))
    with pytest.raises(ImportRefused) as caught:
        asyncio.run(take(tmp_path / "two.db", lines))
    message = str(caught.value)
    assert message.startswith("run.jsonl")
    assert said in message
    assert "Nothing was imported" in message
    assert "\n" not in message
    assert asyncio.run(journals(tmp_path / "two.db")) == {}


def test_every_changed_byte_of_a_file_is_noticed(tmp_path: Path) -> None:
    whole = b"".join(asyncio.run(finish(tmp_path / "one.db", child, 4)))
    assert read_archive(whole.splitlines(keepends=True), "file")
    for place in range(0, len(whole) - 1, 7):  # the last byte is a line's end, which may be missing
        changed = bytearray(whole)
        changed[place] ^= 1
        with pytest.raises(ImportRefused):
            read_archive(bytes(changed).splitlines(keepends=True), "file")


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_commands(tmp_path: Path) -> None:
    cadenza = Project(tmp_path)
    cadenza("run", "flows.py:chain", "3", "--id", "one")
    assert cadenza("export", "one", "-o", "one.jsonl").code == 0
    again = cadenza("export", "one", "-o", "one.jsonl")
    assert (again.code, "is there already" in again.err) == (2, True)
    assert cadenza("import", "one.jsonl", "--store", "two.db").code == 0
    shown = [cadenza("show", "one", "--json", "--store", store).json for store in ("cadenza.db", "two.db")]
    assert shown[0] == shown[1]
    piped = cadenza("import", "-", "--json", "--store", "two.db", given=cadenza("export", "one").out)
    assert (piped.code, piped.json["imported"]) == (0, [])
    for arguments, said in (
        (("export", "nobody"), "no run is named 'nobody'"),
        (("export", "one", "-o", "missing/one.jsonl"), "cannot be written"),
        (("import", "missing.jsonl"), "cannot be read"),
        (("import", "flows.py"), "flows.py, line 1: it does not begin an export"),
    ):
        failed = cadenza(*arguments)
        assert (failed.code, said in failed.err, len(failed.err.splitlines())) == (2, True, 1), failed.err
