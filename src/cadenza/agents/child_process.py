"""A process that answers requests in lines of JSON on its standard input and output.

    request    {"id": "1", "key": "<idempotency key>", "input": …}
    replies    {"progress": …}, any number of them, then one of
               {"output": …}
               {"error": {"type": "…", "message": "…", "retry": false}}

A reply may repeat the ``id``; an output or error of a process that is kept warm does. ``retry`` is true, or a number of
seconds, if it may help to try again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from cadenza.agents.credential import redacted
from cadenza.errors import PeerError, PeerFailed, PeerRefused, PeerUnavailable

STDERR_BYTES_MAX, STDERR_LINES = 64_000, 10
SHOWN_MAX = 200
STDOUT_IS = "Standard output is for replies, one JSON object a line; whatever else there is to say goes to stderr."


class Declared(PeerFailed):
    """The process has said itself that it failed."""


class DeclaredUnavailable(PeerUnavailable):
    """The process has said itself that it cannot do it now."""


@dataclass(frozen=True, slots=True)
class Command:
    """How to start it.

    Attributes:
        agent: its name, for errors.
        argv: the program and its arguments.
        folder: where it runs.
        variables: its whole environment.
        secrets: values that are kept out of errors.
        line_bytes_max: bound on one line of a reply.
        grace_s: between SIGTERM and SIGKILL.
    """

    agent: str
    argv: tuple[str, ...]
    folder: str
    variables: dict[str, str]
    secrets: tuple[str, ...]
    line_bytes_max: int
    grace_s: float

    def __str__(self) -> str:
        return redacted(shlex.join(self.argv), self.secrets)


class ChildProcess:
    """One process, in a process group of its own. Whoever has started it calls ``stop``."""

    def __init__(self, command: Command, process: asyncio.subprocess.Process) -> None:
        self.command, self._process = command, process
        self._stderr = b""
        self._stopped, self._served = False, False
        loop = asyncio.get_running_loop()
        self._listener, self._end = loop.create_task(self._listen()), loop.create_task(process.wait())

    @classmethod
    async def start(cls, command: Command) -> ChildProcess:
        """Raises PeerRefused if there is no such program or folder."""
        program = _program(command)
        if program is None:
            hint = "Install it, or give its full path."
            raise PeerRefused(command.agent, f"there is no program {command.argv[0]!r} to run", hint)
        argv = (*_dies_with_its_parent(), program, *command.argv[1:])
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                cwd=command.folder or None,
                env=command.variables,
                start_new_session=True,
                limit=command.line_bytes_max,
            )
        except (OSError, ValueError) as error:
            raise PeerRefused(command.agent, f"{command} could not be started: {error}") from error
        return cls(command, process)

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    async def converse(
        self, id: str, request: dict[str, Any], on_progress: Callable[[Any], None], *, last: bool
    ) -> Any:
        """Send a request and read replies up to the last one.

        Args:
            last: whether no further request follows: its standard input is closed.

        Raises:
            Declared, DeclaredUnavailable: what it replied; it is ready for another request.
            PeerFailed, PeerUnavailable: it broke the protocol, or ended; it is of no further use.
        """
        await self._write(json.dumps({"id": id, **request}) + "\n", last=last)
        while True:
            line = await self._read()
            reply = self._reply(line, id, id_required=not last)
            self._served = self._served or "progress" not in reply
            if "output" in reply:
                return reply["output"]
            if "error" in reply:
                raise self._error(reply["error"])
            on_progress(reply["progress"])

    async def stop(self) -> None:
        """SIGTERM, and after ``grace_s`` SIGKILL, to its process group."""
        if self._stopped:
            return
        self._stopped = True
        try:
            if self.running:
                self._signal(signal.SIGTERM)
                await self.ended()
        finally:
            await self._kill()

    async def ended(self) -> None:
        """Wait for its end, for at most ``grace_s``."""
        await asyncio.wait([self._end], timeout=self.command.grace_s)

    async def _kill(self) -> None:
        """What is left of the group goes; nothing of it is left to the collector."""
        self._signal(signal.SIGKILL)
        cast("Any", self._process)._transport.close()  # a process that it has left behind may hold the pipes
        await _finished(asyncio.ensure_future(self._process.wait()))  # not _end: a loop that closes has cancelled it
        self._listener.cancel()
        await _finished(self._listener)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    # --- lines ----------------------------------------------------------------------------------------------------

    async def _write(self, line: str, *, last: bool) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it has ended: reading tells how
            stdin.write(line.encode())
            await stdin.drain()
            if last:
                stdin.close()

    async def _read(self) -> bytes:
        try:
            line = await self._line()
        except ValueError as error:
            bound = f"{self.command.line_bytes_max:,}"
            hint = "Let it write a file and reply with its name, or raise line_bytes_max."
            raise PeerFailed(self._agent, await self._said(f"wrote a line of over {bound} bytes", hint)) from error
        if not line.endswith(b"\n"):
            raise await self._ended(line)
        return line

    async def _line(self) -> bytes:
        """Up to the end of its output, or its own end: what it leaves behind may hold the pipe open."""
        assert self._process.stdout is not None
        reading = asyncio.ensure_future(self._process.stdout.readline())
        try:
            await asyncio.wait([reading, self._end], return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                await asyncio.wait([reading], timeout=self.command.grace_s)
            return reading.result() if reading.done() else b""
        finally:
            reading.cancel()

    def _reply(self, line: bytes, id: str, *, id_required: bool) -> dict[str, Any]:
        from pydantic_core import from_json

        written = redacted(line.decode(errors="replace"), self.command.secrets)
        shown = repr(written[:SHOWN_MAX].rstrip("\n"))
        try:
            reply = from_json(written)
        except ValueError as error:
            raise PeerFailed(self._agent, self._now(f"wrote {shown}, which is not JSON", STDOUT_IS)) from error
        if not isinstance(reply, dict) or len({"progress", "output", "error"} & reply.keys()) != 1:
            problem = f"wrote {shown}, which has not one of progress, output, error"
            raise PeerFailed(self._agent, self._now(problem, STDOUT_IS))
        fields = cast("dict[str, Any]", reply)
        if ("id" in fields or (id_required and "progress" not in fields)) and fields.get("id") != id:
            given = f"the id {fields['id']!r}" if "id" in fields else "no id"
            hint = "A process that is kept warm repeats the id of the request in each reply to it."
            raise PeerFailed(self._agent, self._now(f"replied with {given} to the request {id!r}", hint))
        return fields

    def _error(self, error: Any) -> PeerError:
        fields = cast("dict[str, Any]", error) if isinstance(error, dict) else {"message": str(error)}
        problem = f"{fields.get('type') or 'Error'}: {fields.get('message') or '(no message)'}"
        match fields.get("retry"):
            case True:
                return DeclaredUnavailable(self._agent, problem)
            case int() | float() as delay_s if delay_s is not False:
                return DeclaredUnavailable(self._agent, problem, "", max(0.0, float(delay_s)))
            case _:
                return Declared(self._agent, problem)

    # --- what is said of it -----------------------------------------------------------------------------------------

    @property
    def _agent(self) -> str:
        return self.command.agent

    async def _ended(self, rest: bytes) -> PeerError:
        """It has closed its standard output before the reply was complete."""
        await self.ended()
        where = f" in the middle of a line ({len(rest):,} bytes)" if rest else ""
        problem = await self._said(f"closed its standard output{where} before it had replied")
        killed = (self._process.returncode or 0) < 0
        if killed or self._served:  # it has worked before, or somebody has ended it: another one may do
            return PeerUnavailable(self._agent, problem)
        return PeerFailed(self._agent, problem)

    async def _said(self, problem: str, hint: str = "") -> str:
        """With all that it has written to stderr by now."""
        if not self.running:
            await asyncio.wait([self._listener], timeout=self.command.grace_s)
        return self._now(problem, hint)

    def _now(self, problem: str, hint: str = "") -> str:
        code = self._process.returncode
        if code is None:
            state = "is still running"
        elif code < 0:
            state = "was killed by " + next((each.name for each in signal.Signals if each == -code), f"signal {-code}")
        else:
            state = f"ended with exit code {code}"
        lines = redacted(self._stderr.decode(errors="replace"), self.command.secrets).splitlines()[-STDERR_LINES:]
        tail = "".join(f"\n  {line[:SHOWN_MAX]}" for line in lines)
        said = f"The last lines of its stderr:{tail}" if tail else "Its stderr is empty."
        return " ".join(each for each in (f"`{self.command}` {problem}, and {state}.", hint, said) if each)

    async def _listen(self) -> None:
        assert self._process.stderr is not None
        while piece := await self._process.stderr.read(STDERR_BYTES_MAX):
            self._stderr = (self._stderr + piece)[-STDERR_BYTES_MAX:]


async def _finished(task: asyncio.Future[Any]) -> None:
    """Wait for the end of a task whose end is certain, also if whoever waits is cancelled meanwhile."""
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            cancelled = True
    if not task.cancelled():
        task.exception()
    if cancelled:
        raise asyncio.CancelledError


def _program(command: Command) -> str | None:
    """Its full path: a path is looked for from where it runs, a mere name along PATH."""
    name = command.argv[0]
    found = shutil.which(
        os.path.join(command.folder, name) if os.sep in name else name, path=command.variables.get("PATH")
    )
    return None if found is None else os.path.abspath(found)


def _dies_with_its_parent() -> tuple[str, ...]:
    """A prefix with which the kernel kills the process if this one is killed; elsewhere it sees its input end."""
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", "KILL", "--") if setpriv else ()
