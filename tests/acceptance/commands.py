"""Runs the `cadenza` command as people do: real processes, in a folder of their own, with or without a terminal."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CADENZA = [str(Path(sys.executable).with_name("cadenza"))]
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
PATIENCE_S = 60.0

FLOWS = '''
"""Workflows for the tests of the command line."""
import asyncio, time
from pathlib import Path
from pydantic import BaseModel
from cadenza import *

class Order(BaseModel):
    id: int
    item: str
    price: float = 1.0

@step
async def charge(order: Order) -> str:
    with Path("charged.log").open("a") as log:
        log.write(f"{step.key()}\\n")
    return f"receipt {order.id}"

@workflow
async def checkout(ctx: Context, order: Order) -> dict:
    receipt = await ctx.step(charge, order)
    answer = await ctx.ask(HumanTask(title="Ship it?", details={"item": order.item}))
    return {"receipt": receipt, "shipped": answer.approved, "comment": answer.comment}

@step
async def double(n: int) -> int:
    return 2 * n

@workflow
async def chain(ctx: Context, n: int) -> int:
    for _ in range(n):
        await ctx.step(double, n)
    return n

@step
async def pause(s: float) -> float:
    Path("began.log").touch()
    await asyncio.sleep(s)
    return s

@workflow
async def pauses(ctx: Context, each_s: list[float]) -> int:
    for s in each_s:
        await ctx.step(pause, s)
    return len(each_s)

@step
def hang(n: int) -> int:
    Path("began.log").touch()
    time.sleep(1000)
    return n

@workflow
async def hanging(ctx: Context, n: int) -> int:
    return await ctx.step(hang, n)

@step
async def broken(n: int) -> int:
    return {}["missing"]

@workflow
async def failing(ctx: Context, n: int) -> int:
    return await ctx.step(broken, n)

@workflow
async def messages(ctx: Context) -> int:
    return await ctx.receive("paid", int)

@workflow
async def survey(ctx: Context) -> dict:
    colour, words = await asyncio.gather(
        ctx.ask(HumanTask(title="Which colour?", kind="choose", options=("red", "green"))),
        ctx.ask(HumanTask(title="Mend it", kind="edit", value={"text": "Helo"})),
    )
    return {"colour": colour.choice, "text": words.value, "by": colour.by}

@workflow
async def asks_child(ctx: Context) -> dict:
    return await ctx.run(survey)

@workflow
async def spinning(ctx: Context) -> int:
    n = 0
    while True:
        n += 1

@workflow
async def unruly(ctx: Context) -> int:
    if time.perf_counter_ns() % 2 or True:
        await ctx.step(double, time.perf_counter_ns())
    return 1

@agent
async def classifier(n: int) -> int:
    return n

@workflow
async def misspelt(ctx: Context) -> int:
    return await ctx.call("clasifier", 1)

@workflow
async def wide(ctx: Context, n: int) -> int:
    return len(await map_reduce(ctx, range(n), "classifier", limit=50))

@step
async def much(size: int) -> str:
    return "x" * size

@workflow
async def oversized(ctx: Context) -> int:
    return len(await ctx.step(much, 9_000_000))
'''


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed with --json."""
        assert self.out, f"nothing was printed; exit code {self.code}:\n{self.err}"
        return json.loads(self.out)


class Project:
    """A folder with `flows.py`; commands run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.before: Callable[[], None] | None = None
        (folder / "flows.py").write_text(FLOWS, encoding="utf-8")
        unset = ("CADENZA_STORE", "COLUMNS", "NO_COLOR", "FORCE_COLOR", "PYTHONUNBUFFERED")
        self.env = {name: value for name, value in os.environ.items() if name not in unset} | {"TERM": "xterm-256color"}

    def __call__(self, *arguments: str, given: str | None = None, **env: str) -> Done:
        """Run a command to its end; `given` is its standard input, `self.before` runs in the child."""
        process = subprocess.run(
            [*CADENZA, *arguments], cwd=self.folder, env=self.env | env, input=given or "", capture_output=True,
            text=True, timeout=PATIENCE_S, check=False, preexec_fn=self.before,
        )  # fmt: skip
        return Done(process.returncode, process.stdout, process.stderr)

    @contextmanager
    def started(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """A command in the background; it is killed at the end if it still runs."""
        process = subprocess.Popen(
            [*CADENZA, *arguments], cwd=self.folder, env=self.env, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def run_id(self) -> str:
        """The newest run."""
        return self("runs", "--json", "--limit", "1").json[0]["run_id"]

    def wait_for(self, file: str) -> None:
        """Until a step has left this file."""
        until((self.folder / file).exists, f"{file} was never made")

    def edit(self, old: str, new: str) -> None:
        """Change the workflows, as between two deploys."""
        flows = self.folder / "flows.py"
        text = flows.read_text(encoding="utf-8")
        assert old in text
        flows.write_text(text.replace(old, new), encoding="utf-8")


def until(holds: Callable[[], bool], problem: str) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end_s, problem
        time.sleep(0.02)


def ended(process: subprocess.Popen[str]) -> Done:
    """Wait for the end of a command in the background."""
    out, err = process.communicate(timeout=PATIENCE_S)
    return Done(process.returncode, out, err)


def hears_control_c() -> None:
    """As from a terminal's shell; what a script runs in the background is begun deaf to Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Terminal:
    """A command in a terminal of the given size."""

    def __init__(self, project: Project, *arguments: str, columns: int = 100, lines: int = 30) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.process = subprocess.Popen(
            [*CADENZA, *arguments], cwd=project.folder, env=project.env, start_new_session=True,
            stdin=slave, stdout=slave, stderr=slave, preexec_fn=hears_control_c,  # noqa: PLW1509  # it takes no lock
        )  # fmt: skip
        os.close(slave)
        self.raw = ""

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)

    @property
    def text(self) -> str:
        """Everything that was written, without colours and cursor moves."""
        return ESCAPES.sub("", self.raw).replace("\r", "")

    def until(self, text: str) -> None:
        """Read until `text` has appeared since the last key that was typed."""
        end_s = time.monotonic() + PATIENCE_S
        while text not in self.text:
            assert time.monotonic() < end_s, f"{text!r} never came:\n{self.text[-2000:]}"
            if not self._read(0.1) and self.process.poll() is not None:
                raise AssertionError(f"the command ended without {text!r}:\n{self.text[-2000:]}")

    def type(self, text: str) -> None:
        self.raw = ""
        os.write(self._master, text.encode())

    def press_control_c(self) -> None:
        self.raw = ""
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self) -> int:
        """Read to the end; returns the exit code."""
        end_s = time.monotonic() + PATIENCE_S
        while self.process.poll() is None or self._read(0.05):
            self._read(0.05)
            assert time.monotonic() < end_s, f"it never ended:\n{self.text[-2000:]}"
        return self.process.returncode

    def _read(self, wait_s: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], wait_s)
        if not ready:
            return False
        try:
            piece = os.read(self._master, 65_536)
        except OSError:  # the other end is closed
            return False
        self.raw += piece.decode(errors="replace")
        return bool(piece)
