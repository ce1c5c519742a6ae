"""Process agents: a program in any language that answers in lines of JSON (see child_process.py)."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import os
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Unpack
from weakref import WeakKeyDictionary

from cadenza.agents.child_process import ChildProcess, Command, Declared, DeclaredUnavailable
from cadenza.agents.credential import check_variable, secret_in
from cadenza.agents.peer_agent import CallFields, PeerAgent, policy_in, split
from cadenza.durable.define import Retry, StepOptions, step
from cadenza.errors import DefinitionError, StepTimeout

INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER", "SSL_CERT_FILE", "SYSTEMROOT")
WARM_MAX = 64


class ProcessFields(CallFields, total=False):
    """What else a definition may say.

    Attributes:
        folder: where it runs; by default where Cadenza runs.
        variables: its environment, beside PATH, HOME and their like.
        secrets: names of environment variables that are handed to it; their values are kept out of every error.
        warm: how many processes are kept and used again; 0, the default, is a new one for each call.
        line_bytes_max: bound on one line of a reply.
        grace_s: seconds between SIGTERM and SIGKILL.
    """

    folder: str
    variables: Mapping[str, str]
    secrets: Sequence[str]
    warm: int
    line_bytes_max: int
    grace_s: float


class ProcessAgent(PeerAgent):
    """A program as an agent.

    Args:
        name: unique in the project.
        command: the program and its arguments; no shell reads them.
        input, output: types of what goes in and comes out; plain JSON by default.
        fields: see ProcessFields, and ``step`` and Card. By default a call is ``idempotent`` and may take 600 s.

    Raises:
        DefinitionError: the definition makes no sense, or another agent has the name.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str] | str,
        *,
        input: Any = Any,
        output: Any = Any,
        **fields: Unpack[ProcessFields],
    ) -> None:
        self._argv = tuple(shlex.split(command) if isinstance(command, str) else command)
        if not self._argv:
            raise DefinitionError(f"{name}: a process agent needs a command")
        self._folder = str(fields.pop("folder", ""))
        self._variables = dict(fields.pop("variables", {}))
        self._secrets = tuple(fields.pop("secrets", ()))
        self._warm = fields.pop("warm", 0)
        self._line_bytes_max = fields.pop("line_bytes_max", 1_000_000)
        self._grace_s = fields.pop("grace_s", 5.0)
        for each in self._secrets:
            check_variable(each)
        if not 0 <= self._warm <= WARM_MAX:
            raise DefinitionError(f"{name}: warm is a number of processes, 0 to {WARM_MAX}, not {self._warm}")
        self._pools: WeakKeyDictionary[asyncio.AbstractEventLoop, Pool] = WeakKeyDictionary()
        policy = policy_in(fields, name)
        options, of_card = split(fields, "a process agent")
        options.setdefault("timeout_s", 600.0)
        if options.get("effect") != "irreversible":
            options.setdefault("retry", Retry(never_on=(StepTimeout,)))
        super().__init__("process", name, self._ask, (input, output), StepOptions(**options), of_card, policy)

    @property
    def command(self) -> tuple[str, ...]:
        """The program and its arguments."""
        return self._argv

    async def _ask(self, input: Any) -> Any:
        from pydantic_core import to_jsonable_python

        request = {"key": step.key(), "input": to_jsonable_python(input)}
        command = self._command()
        if self._warm:
            return await self._pool().converse(command, request)
        child = await ChildProcess.start(command)
        try:
            output = await child.converse("1", request, step.heartbeat, last=True)
            await child.ended()
            return output
        finally:
            await child.stop()

    def _command(self) -> Command:
        secrets = {each: secret_in(each, self.name) for each in self._secrets}
        inherited = {each: os.environ[each] for each in INHERITED if each in os.environ}
        return Command(
            self.name,
            self._argv,
            self._folder,
            {**inherited, **self._variables, **secrets},
            tuple(secrets.values()),
            self._line_bytes_max,
            self._grace_s,
        )

    def _pool(self) -> Pool:
        loop = asyncio.get_running_loop()
        if loop not in self._pools:
            self._pools[loop] = Pool(self._warm)
        return self._pools[loop]


class Pool:
    """Processes that are kept, on one event loop; they end when it does."""

    def __init__(self, size: int) -> None:
        self._room = asyncio.Semaphore(size)
        self._idle: list[ChildProcess] = []
        self._ids = itertools.count(1)
        loop = asyncio.get_running_loop()
        self._keeper = loop.create_task(self._keep(), context=contextvars.Context())  # not of the step that is first

    async def converse(self, command: Command, request: dict[str, Any]) -> Any:
        """See ChildProcess.converse. A process that broke the protocol is replaced."""
        async with self._room:
            child = await self._take(command)
            fit = False
            try:
                output = await child.converse(str(next(self._ids)), request, step.heartbeat, last=False)
                fit = True
                return output
            except (Declared, DeclaredUnavailable):
                fit = True
                raise
            finally:
                if fit:
                    self._idle.append(child)
                else:
                    await child.stop()

    async def _take(self, command: Command) -> ChildProcess:
        while self._idle:
            child = self._idle.pop()
            if child.running and child.command == command:
                return child
            await child.stop()
        return await ChildProcess.start(command)

    async def _keep(self) -> None:
        """``asyncio.run`` cancels what is left before it closes the loop."""
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.gather(*(child.stop() for child in self._idle))
