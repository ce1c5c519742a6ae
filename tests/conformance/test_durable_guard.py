"""Real I/O, threads and clocks that block, in workflow code: each is refused, and the error names the line that did it.

Each function of ``MISTAKES`` makes one mistake on its last line. It is made in the workflow itself, in a task, in a
callback, and (for coroutines of the library) by a task made straight of it.
"""

from __future__ import annotations

import ast
import asyncio
import concurrent.futures
import inspect
import linecache
import logging
import multiprocessing
import os
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import textwrap
import threading
import time
import traceback
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cadenza import Context, workflow
from cadenza.durable import commands, events
from cadenza.durable.define import WorkflowFunction
from cadenza.durable.machine import Machine
from cadenza.errors import SideEffect
from tests.conformance.world import T0

HERE = str(Path(__file__))
MISTAKES: dict[str, Callable[..., Any]] = {}


def mistake(fn: Callable[..., Any]) -> Callable[..., Any]:
    MISTAKES[fn.__name__] = fn
    return fn


def last_line(fn: Callable[..., Any]) -> str:
    """``file:line`` of the last statement of ``fn``, where its mistake is."""
    lines, first = inspect.getsourcelines(fn)
    body = ast.parse(textwrap.dedent("".join(lines))).body[0]
    assert isinstance(body, ast.FunctionDef | ast.AsyncFunctionDef)
    return f"{HERE}:{first + body.body[-1].lineno - 1}"


@mistake
def opens_a_file(ctx: Context) -> None:
    open(os.devnull)  # noqa: SIM115 - it never opens


@mistake
def reads_a_path(ctx: Context) -> None:
    Path(HERE).read_text()


@mistake
def opens_a_descriptor(ctx: Context) -> None:
    os.open(os.devnull, os.O_RDONLY)


@mistake
def lists_a_folder(ctx: Context) -> None:
    os.listdir()


@mistake
def makes_a_folder(ctx: Context) -> None:
    Path("never").mkdir()


@mistake
def copies_a_file(ctx: Context) -> None:
    shutil.copyfile(HERE, "/never/made")


@mistake
def makes_a_temporary_file(ctx: Context) -> None:
    tempfile.mkstemp()


@mistake
def makes_a_socket(ctx: Context) -> None:
    socket.socket()


@mistake
def looks_up_a_host(ctx: Context) -> None:
    socket.getaddrinfo("localhost", 80)


@mistake
def connects(ctx: Context) -> None:
    socket.create_connection(("127.0.0.1", 9))


@mistake
def fetches_a_page(ctx: Context) -> None:
    urllib.request.urlopen("http://127.0.0.1:9/")


@mistake
def runs_a_process(ctx: Context) -> None:
    subprocess.run(["true"], check=False)


@mistake
def runs_a_command(ctx: Context) -> None:
    os.system("true")


@mistake
def forks(ctx: Context) -> None:
    multiprocessing.get_context("fork").Process(target=print).start()


@mistake
def starts_a_thread(ctx: Context) -> None:
    threading.Thread(target=print).start()


@mistake
def uses_a_thread_pool(ctx: Context) -> None:
    concurrent.futures.ThreadPoolExecutor().submit(print)


@mistake
def opens_a_database(ctx: Context) -> None:
    sqlite3.connect(":memory:")


@mistake
def sleeps_for_real(ctx: Context) -> None:
    time.sleep(0.001)


@mistake
def asks_the_terminal(ctx: Context) -> None:
    input()


@mistake
def runs_in_an_executor(ctx: Context) -> None:
    asyncio.get_running_loop().run_in_executor(None, print)


@mistake
def calls_from_another_thread(ctx: Context) -> None:
    asyncio.get_running_loop().call_soon_threadsafe(print)


@mistake
def listens_for_a_signal(ctx: Context) -> None:
    asyncio.get_running_loop().add_signal_handler(1, print)


@mistake
def watches_a_descriptor(ctx: Context) -> None:
    asyncio.get_running_loop().add_reader(0, print)


@mistake
async def goes_to_a_thread(ctx: Context) -> None:
    await asyncio.to_thread(print)


@mistake
async def opens_a_connection(ctx: Context) -> None:
    await asyncio.open_connection("127.0.0.1", 9)


@mistake
async def creates_a_connection(ctx: Context) -> None:
    await asyncio.get_running_loop().create_connection(asyncio.Protocol, "127.0.0.1", 9)


@mistake
async def serves(ctx: Context) -> None:
    await asyncio.start_server(print, "127.0.0.1", 0)


@mistake
async def runs_an_async_process(ctx: Context) -> None:
    await asyncio.create_subprocess_exec("true")


@mistake
async def waits_for(ctx: Context) -> None:
    await asyncio.wait_for(ctx.receive("never"), 1)


@mistake
async def takes_coroutines_as_completed(ctx: Context) -> None:
    list(asyncio.as_completed([asyncio.sleep(1)]))


COROUTINES = {name: fn for name, fn in MISTAKES.items() if inspect.iscoroutinefunction(fn)}
CALLS = {name: fn for name, fn in MISTAKES.items() if name not in COROUTINES}


@workflow
async def by_itself(ctx: Context, name: str) -> None:
    made = MISTAKES[name](ctx)
    if made is not None:
        await made


@workflow
async def deep_in_libraries(ctx: Context, name: str) -> None:
    def call(_: int) -> int:
        MISTAKES[name](ctx)
        return 1

    sorted([1], key=call)


@workflow
async def in_a_task_that_is_awaited(ctx: Context, name: str) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(by_itself.fn(ctx, name))  # type: ignore[arg-type]
        await ctx.receive("never")


@workflow
async def in_a_task_that_nobody_awaits(ctx: Context, name: str) -> None:
    asyncio.ensure_future(by_itself.fn(ctx, name))
    await ctx.receive("never")


@workflow
async def in_a_callback(ctx: Context, name: str) -> None:
    asyncio.get_running_loop().call_soon(MISTAKES[name], ctx)
    await ctx.receive("never")


@workflow
async def in_clean_up(ctx: Context, name: str) -> None:
    try:
        raise ValueError
    finally:
        made = MISTAKES[name](ctx)
        if made is not None:
            await made


def refused(fn: WorkflowFunction[..., Any], name: str, more: tuple[events.AnyEvent, ...] = ()) -> SideEffect:
    """The SideEffect that stalls a run of ``fn``."""
    machine = Machine(fn)
    try:
        machine.apply(events.RunStarted(at=T0, run_id="r", workflow=fn.name, input=f'"{name}"'.encode()))
        for event in more:
            machine.apply(event)
        last = machine.take_commands()[-1]
        assert isinstance(last, commands.Finish), f"nothing was noticed: {last}"
        assert isinstance(last.ending, commands.Blocked), last.ending
        error: Any = last.ending.error
    except SideEffect as raised:
        error = raised
    finally:
        assert machine.evict() == []
    assert isinstance(error, SideEffect)
    return error


@pytest.mark.parametrize("name", MISTAKES)
@pytest.mark.parametrize(
    "place",
    [by_itself, in_a_task_that_is_awaited, in_a_task_that_nobody_awaits, in_clean_up],
    ids=lambda each: each.label,
)
def test_what_is_real_is_refused_at_its_line(place: WorkflowFunction[..., Any], name: str) -> None:
    error = refused(place, name)
    assert error.where == last_line(MISTAKES[name]), str(error)
    assert error.instead
    assert error.where in str(error)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("place", [in_a_callback, deep_in_libraries], ids=lambda each: each.label)
def test_what_is_real_is_refused_in_callbacks(place: WorkflowFunction[..., Any], name: str) -> None:
    assert refused(place, name).where == last_line(MISTAKES[name])


@workflow
async def straight_from_the_library(ctx: Context, name: str) -> None:
    work: dict[str, Callable[[], Any]] = {
        "to_thread": lambda: asyncio.to_thread(print),
        "open_connection": lambda: asyncio.open_connection("127.0.0.1", 9),
        "wait_for": lambda: asyncio.wait_for(ctx.receive("never"), 1),
        "create_subprocess_exec": lambda: asyncio.create_subprocess_exec("true"),
    }
    await asyncio.gather(work[name]())


@pytest.mark.parametrize("name", ["to_thread", "open_connection", "wait_for", "create_subprocess_exec"])
def test_a_task_made_of_a_library_coroutine_is_refused_at_the_line_that_made_it(name: str) -> None:
    assert refused(straight_from_the_library, name).where == last_line(straight_from_the_library.fn)


@workflow
async def after_a_step(ctx: Context, name: str) -> None:
    await ctx.receive("go")
    MISTAKES[name](ctx)


def test_what_is_real_is_refused_later_on_as_well() -> None:
    error = refused(after_a_step, "opens_a_file", (events.MessageReceived(at=T0, name="go", value=b"1"),))
    assert error.where == last_line(opens_a_file)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("sleeps_for_real", "await asyncio.sleep"),
        ("asks_the_terminal", "ctx.ask"),
        ("waits_for", "asyncio.timeout"),
        ("takes_coroutines_as_completed", "asyncio.create_task"),
        ("opens_a_file", "ctx.step"),
        ("goes_to_a_thread", "ctx.step"),
    ],
)
def test_the_error_says_what_to_use_instead(name: str, hint: str) -> None:
    assert hint in str(refused(by_itself, name))


@workflow
async def what_the_interpreter_does(ctx: Context) -> str:
    """Imports, tracebacks, warnings and logs need files, and are no work of the workflow's."""
    import xml.dom.minidom as _  # noqa: F401 - to import is the point

    logging.getLogger("tests").warning("logged")
    linecache.clearcache()
    try:
        raise ValueError("to be printed")
    except ValueError:
        text = traceback.format_exc()
    print("printed")
    return text


def test_what_the_interpreter_does_by_itself_is_let_through(capsys: pytest.CaptureFixture[str]) -> None:
    machine = Machine(what_the_interpreter_does)
    machine.apply(events.RunStarted(at=T0, run_id="r", workflow=what_the_interpreter_does.name, input=b"null"))
    last = machine.take_commands()[-1]
    assert isinstance(last, commands.Finish)
    assert isinstance(last.ending, commands.Completed), last.ending
    assert b"to be printed" in last.ending.value


def test_outside_of_workflow_code_nothing_is_refused(tmp_path: Path) -> None:
    machine = Machine(by_itself)
    assert refused(by_itself, "opens_a_file")

    async def outside() -> None:
        (tmp_path / "file").write_text("text")
        await asyncio.to_thread(time.sleep, 0.001)
        await asyncio.wait_for(asyncio.sleep(0), 1)
        with socket.socket():
            pass
        for future in asyncio.as_completed([asyncio.sleep(0)]):
            await future

    asyncio.run(outside())
    machine.evict()
