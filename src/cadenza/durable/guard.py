"""Refuses real I/O and threads in workflow code, and names the line.

Python reports opening files, sockets, processes and threads as audit events. One process-wide hook looks whether a
deterministic loop is running on this thread; if so, workflow code is executing, and the event is an error. What the
interpreter does by itself (imports, what is installed, source lines for a traceback, logging) is let through.
"""

from __future__ import annotations

import asyncio
import functools
import sys
import sysconfig
from functools import cache
from pathlib import PurePath
from types import CodeType, FrameType
from typing import Any, ClassVar, cast

from cadenza.errors import SideEffect

IN_A_STEP = "do this in a step and await ctx.step(...)"
REFUSED = {
    "open": IN_A_STEP,
    "time.sleep": "use await asyncio.sleep(seconds), which is durable",
    "_thread.start_new_thread": IN_A_STEP,
    "_thread.start_joinable_thread": IN_A_STEP,
    "subprocess.Popen": IN_A_STEP,
    "sqlite3.connect": IN_A_STEP,
    "builtins.input": "ask with await ctx.ask(HumanTask(...))",
    "urllib.Request": IN_A_STEP,
    **{
        f"os.{call}": IN_A_STEP
        for call in [
            "system",
            "exec",
            "fork",
            "forkpty",
            "posix_spawn",
            "spawn",
            "listdir",
            "scandir",
            "mkdir",
            "rmdir",
            "remove",
            "rename",
            "link",
            "symlink",
            "truncate",
            "chmod",
            "chown",
            "kill",
            "putenv",
            "unsetenv",
            "walk",
            "chdir",
        ]
    },
    **{
        f"socket.{call}": IN_A_STEP for call in ["__new__", "connect", "bind", "getaddrinfo", "gethostbyname", "sendto"]
    },
    **{f"shutil.{call}": IN_A_STEP for call in ["copyfile", "copytree", "move", "rmtree", "make_archive"]},
    **{f"tempfile.{call}": IN_A_STEP for call in ["mkstemp", "mkdtemp"]},
}
LET_THROUGH = {
    "importlib._bootstrap", "importlib._bootstrap_external", "zipimport",
    "linecache", "traceback", "tokenize", "logging", "warnings", "inspect",
    "importlib.metadata",  # pydantic looks for its plugins when it builds its first validator
}  # fmt: skip
ENGINE = str(PurePath(__file__).parent.parent)
STDLIB = (sysconfig.get_paths()["stdlib"], "<frozen")


class DeterministicLoop(asyncio.AbstractEventLoop):
    """Marks a loop on which workflow code runs. ``bottom`` is the function below which no frame is workflow code's."""

    bottom: ClassVar[CodeType | None] = None


@cache
def install() -> None:
    """Add the hook, once a process (it cannot be removed)."""
    sys.addaudithook(_hook)
    if sys.version_info < (3, 12):
        _report("threading", "_start_new_thread", "_thread.start_new_thread")
    if sys.version_info < (3, 13):
        _report("time", "sleep", "time.sleep")


def _report(module: str, function: str, event: str) -> None:
    """Make an older Python report a call as newer ones do by themselves."""
    owner = sys.modules[module]
    original = getattr(owner, function)

    @functools.wraps(original)
    def reported(*args: Any, **kwargs: Any) -> Any:
        sys.audit(event, *args)
        return original(*args, **kwargs)

    setattr(owner, function, reported)


def _hook(event: str, args: tuple[Any, ...]) -> None:
    instead = REFUSED.get(event)
    if instead is None or not isinstance(asyncio._get_running_loop(), DeterministicLoop):
        return
    frame: FrameType | None = sys._getframe(1)  # pyright: ignore[reportPrivateUsage] - the caller's line is the message
    while frame is not None and frame.f_code is not DeterministicLoop.bottom:
        if frame.f_globals.get("__name__", "") in LET_THROUGH:
            return
        frame = frame.f_back
    name = (
        f"open({args[0]!r})" if event == "open" else event.replace("_thread.start_new_thread", "threading.Thread.start")
    )
    raise SideEffect(name, line_of(sys._getframe(1)), instead)  # pyright: ignore[reportPrivateUsage]


def line_of(frame: FrameType | None) -> str:
    """``file:line`` of the nearest frame that is neither Cadenza's nor the standard library's.

    A task made straight of a library's coroutine has no such frame: then it is the line at which the task was made.
    """
    nearest = frame
    while frame is not None and frame.f_code is not DeterministicLoop.bottom:
        if not is_library(frame.f_code):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    made_at: str = getattr(asyncio.current_task(), "made_at", "") if asyncio._get_running_loop() else ""
    if made_at or nearest is None:
        return made_at or "an unknown line"
    return f"{nearest.f_code.co_filename}:{nearest.f_lineno}"


def stalled_line(frame: FrameType | None) -> str:
    """``file:line`` of workflow code on a thread that runs without end; between two callbacks, of the last of them."""
    while frame is not None and frame.f_code is not DeterministicLoop.bottom:
        if not is_library(frame.f_code):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return line_behind(frame.f_locals.get("handle")) if frame is not None else "an unknown line"


def line_behind(handle: Any) -> str:
    """``file:line`` of the workflow code behind a callback: where its task waits, or where its function begins."""
    callback = getattr(handle, "_callback", None)
    concerned = (getattr(callback, "__self__", None), *(getattr(handle, "_args", None) or ()))
    for each in concerned:
        if isinstance(each, asyncio.Task):
            return line_of_task(cast("asyncio.Task[Any]", each))
    code = getattr(callback, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else "an unknown line"


def line_of_task(task: asyncio.Task[Any]) -> str:
    """``file:line`` of the workflow code at which ``task`` waits."""
    waiting: Any = task.get_coro()
    begins: CodeType | None = getattr(waiting, "cr_code", None)
    line: str = getattr(task, "made_at", "")
    if not line and begins is not None:
        line = f"{begins.co_filename}:{begins.co_firstlineno}"
    while waiting is not None:
        frame: FrameType | None = getattr(waiting, "cr_frame", None)
        if frame is not None and not is_library(frame.f_code):
            line = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        waiting = getattr(waiting, "cr_await", None)
    return line or "an unknown line"


def is_library(code: CodeType) -> bool:
    """Whether code is Cadenza's own or the standard library's."""
    file = code.co_filename
    return file.startswith(ENGINE) or (file.startswith(STDLIB) and "site-packages" not in file)


def here() -> str:
    """``file:line`` of the workflow code that is executing now."""
    return line_of(sys._getframe(1))  # pyright: ignore[reportPrivateUsage]
