"""Recordings: a real run as an offline test, and what it says when the code has changed."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cadenza import Answer, testing
from cadenza.errors import UsageError
from cadenza.testing import Environment, call
from tests.acceptance.commands import Project

SHOP = '''
"""A shop whose code changes."""
import asyncio
from dataclasses import dataclass
from cadenza import Agent, Context, HumanTask, step, tool, workflow

CALLED = []

@dataclass
class Order:
    name: str
    cents: int

@step
async def charge(order: Order, cents: int) -> str:
    CALLED.append("charge")
    return f"{order.name}: {cents}"

@tool
async def stock(name: str) -> int:
    CALLED.append("stock")
    return 3

drafter = Agent("drafter_on_record", model="openai:gpt-5-nano", instructions="Draft an offer.", tools=[stock])

@workflow
async def part(ctx: Context, n: int) -> int:
    await asyncio.sleep(60)
    return n + 1

@workflow
async def shop(ctx: Context, order: Order) -> str:
    receipt = await ctx.step(charge, order, order.cents * 2)
    offer = await ctx.call(drafter, f"Offer {order.name}")
    answer = await ctx.ask(HumanTask(title=f"Send it: {offer}?"))
    n = await ctx.run(part, 1)
    return f"{receipt} {offer} {answer.approved} {n}"
'''


def deployed(folder: Path, code: str) -> None:
    """The module `shop_on_record`, with this code, imported anew."""
    (folder / "shop_on_record.py").write_text(code, encoding="utf-8")
    sys.modules.pop("shop_on_record", None)
    __import__("shop_on_record")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    deployed(tmp_path, SHOP)
    return tmp_path


@pytest.fixture
def recording(folder: Path) -> Path:
    path = folder / "regression" / "shop.json"

    async def main() -> None:
        shop = sys.modules["shop_on_record"]
        async with testing.environment() as env:
            env.model("drafter_on_record", [call("stock", name="tea"), "Three teas."])
            run = await env.start(shop.shop, shop.Order("tea", 50))
            await env.answer(run, Answer(approved=True))
            assert await run.result() == "tea: 100 Three teas. True 2"
            await testing.record(run, path)

    asyncio.run(main())
    sys.modules["shop_on_record"].CALLED.clear()
    return path


def test_unchanged_code_passes_and_nothing_is_called(recording: Path) -> None:
    testing.assert_unchanged(recording)
    assert sys.modules["shop_on_record"].CALLED == []
    assert "Three teas." in recording.read_text()


CHANGES = {
    "a step's input": (("order.cents * 2", "order.cents * 3"), r"at charge#1.*input\[1\]: expected 100, found 150"),
    "a prompt": (('f"Offer {order.name}"', 'f"Sell {order.name}"'), r"expected 'Offer tea', found 'Sell tea'"),
    "instructions": (("Draft an offer.", "Draft a poem."), r"defined otherwise \(instructions\).*'Draft a poem.'"),
    "a tool's schema": (("name: str) -> int", "name: str, n: int = 1) -> int"), r"defined otherwise \(tools.stock\)"),
    "a decision": (("    n = await ctx.run(part, 1)", "    n = 2"), r"expected: .*part.*found: .*\"end\""),
    "a child's delay": (("sleep(60)", "sleep(61)"), r"seconds: expected 60.0, found 61.0"),
    "a question": (("Send it:", "Post it:"), r"task.title: expected 'Send it: Three teas.\?', found 'Post it"),
    "a result": (("{answer.approved} {n}", "{n}"), r"end.completed: expected 'tea: 100 Three teas. True 2'"),
    "a new step": (
        ("    offer = await", "    await ctx.step(charge, order, 1)\n    offer = await"),
        r"expected: .*drafter_on_record.*found: .*charge#2",
    ),
    "an error": (('    n = await ctx.run(part, 1)', '    raise KeyError("n")'), r"found: .*KeyError"),
    "a renamed step": (("async def charge", "async def bill"), r"shop_on_record:charge.*shop_on_record:bill"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_each_change_is_named_with_what_was_expected_and_found(recording: Path, name: str) -> None:
    (old, new), message = CHANGES[name]
    assert old in SHOP
    code = SHOP.replace(old, new)
    deployed(recording.parent.parent, code.replace("ctx.step(charge", "ctx.step(bill") if "bill" in new else code)
    with pytest.raises(AssertionError, match=f"(?s){message}") as caught:
        testing.assert_unchanged(recording)
    assert "record the run anew" in str(caught.value)


def test_changes_that_change_nothing_pass(recording: Path) -> None:
    deployed(recording.parent.parent, SHOP.replace('return f"{order.name}: {cents}"', 'return "of no matter here"'))
    testing.assert_unchanged(recording)


def test_a_prompt_that_is_made_of_the_conversation_is_compared(recording: Path) -> None:
    """The recording says what the model was told; if that were otherwise, it is shown."""
    data = json.loads(recording.read_text())
    turn = data["runs"][0]["generations"][0]["turns"]["b1/drafter_on_record#1"]
    assert list(turn["parts"]) == ["request/1", "tool/1/scripted-1-1", "request/2"]
    assert turn["parts"]["tool/1/scripted-1-1"] == {"tool": "stock", "arguments": {"name": "tea"}}
    text = recording.read_text().replace('"content": "Offer tea"', '"content": "Offer coffee"')
    recording.write_text(text)
    with pytest.raises(AssertionError, match=r"(?s)request/1 is not what was recorded.*'Offer coffee'.*'Offer tea'"):
        testing.assert_unchanged(recording)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_text("{"), "cannot be read as a recording"),
        (lambda path: path.write_text("[]"), "no recording of this version"),
        (lambda path: path.unlink(), "cannot be read as a recording"),
    ],
)
def test_a_file_that_is_no_recording_is_refused(recording: Path, spoil: Callable[[Path], object], message: str) -> None:
    spoil(recording)
    with pytest.raises(UsageError, match=message):
        testing.assert_unchanged(recording)


def test_a_run_is_not_recorded_with_other_code(folder: Path) -> None:
    async def main(env: Environment) -> None:
        shop = sys.modules["shop_on_record"]
        env.script("drafter_on_record", ["An offer."])
        run = await env.start(shop.shop, shop.Order("tea", 50))
        await env.asked(run)
        shop.shop.fn = shop.part.fn
        with pytest.raises(UsageError, match="Record it with the code that made it"):
            await testing.record(run)

    async def open_it() -> None:
        async with testing.environment() as env:
            await main(env)

    asyncio.run(open_it())


def test_the_command_records_and_a_test_in_another_process_finds_the_change(tmp_path: Path) -> None:
    cadenza = Project(tmp_path)
    assert cadenza("run", "flows.py:chain", "3").code == 0
    run_id = cadenza.run_id()
    done = cadenza("record", run_id, "-o", "tests/regression/chain.json")
    assert (done.code, "assert_unchanged('tests/regression/chain.json')" in done.err) == (0, True), done.err
    again = cadenza("record", run_id, "-o", "tests/regression/chain.json")
    assert (again.code, "--force" in again.err) == (2, True)
    script = "from cadenza.testing import assert_unchanged; assert_unchanged('tests/regression/chain.json')"
    command = [sys.executable, "-B", "-c", script]
    assert subprocess.run(command, cwd=tmp_path, check=False).returncode == 0
    cadenza.edit("await ctx.step(double, n)", "await ctx.step(double, n + 1)")
    changed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "expected 3, found 4" in changed.stderr
