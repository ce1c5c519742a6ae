"""A run, seen from outside."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from cadenza.durable import codec, events
from cadenza.durable.define import WorkflowFunction, find_workflow
from cadenza.durable.human import Answer
from cadenza.engine.store import RunRow
from cadenza.engine.update import UPDATE_S
from cadenza.errors import RunBlocked, RunCancelled, RunFailed, StoreCorrupt, UnknownName

if TYPE_CHECKING:
    from cadenza.engine.engine import Engine

T = TypeVar("T")


class RunHandle(Generic[T]):
    """Refers to one run of one engine's store; holds no state of its own."""

    def __init__(self, engine: Engine, run_id: str, workflow: WorkflowFunction[..., T] | None = None) -> None:
        self._engine, self.run_id, self._workflow = engine, run_id, workflow

    @property
    def row(self) -> RunRow:
        """The run as lists show it. Raises UnknownName if it was purged."""
        return self._engine.find(self.run_id)

    async def result(self) -> T:
        """Wait for the run's end, wherever it runs.

        Raises:
            RunFailed, RunCancelled: it ended so.
            RunBlocked: it waits for a deploy or an operator.
            StoreError: the store failed this process.
        """
        ended = await self._engine.ended(self.run_id)
        match ended.last:
            case events.RunCompleted(value=value):
                return cast("T", codec.decode(value, self._output_type(), f"the result of run {self.run_id}"))
            case events.RunFailed(failure=failure):
                raise RunFailed(self.run_id, failure)
            case events.RunCancelled(reason=reason):
                raise RunCancelled(self.run_id, reason)
            case None:
                raise RunBlocked(self.run_id, ended.detail)
            case other:
                raise StoreCorrupt(self.run_id, f"the run has ended, and its journal with {type(other).__name__}")

    def _output_type(self) -> Any:
        try:
            workflow = self._workflow or find_workflow(self.row.workflow)
        except UnknownName:
            return Any
        return workflow.output_type

    async def settled(self) -> RunRow:
        """Wait until the run has ended, is blocked, or can only go on when a person or a message comes."""
        while not self._engine.is_settled(row := self.row):
            await asyncio.sleep(self._engine.options.poll_idle_s)
        return row

    async def query(self, name: str = "") -> Any:
        """Read a view of the run without waking it; see Engine.query."""
        return await self._engine.query(self.run_id, name)

    async def update(self, name: str, value: Any = None, *, key: str = "", timeout_s: float = UPDATE_S) -> Any:
        """Send the run an update and wait for its answer; see Engine.update."""
        return await self._engine.update(self.run_id, name, value, key=key, timeout_s=timeout_s)

    async def signal(self, name: str, value: Any = None, *, key: str = "") -> None:
        """Send the run a message; see Engine.signal."""
        await self._engine.signal(self.run_id, name, value, key=key)

    async def cancel(self, reason: str = "") -> None:
        """Ask the run to stop, clean up and undo."""
        await self._engine.cancel(self.run_id, reason)

    async def answer(self, path: str, answer: Answer, *, asked_at: int = 0) -> None:
        """Answer a question that the run asks at ``path``; see Engine.answer."""
        await self._engine.answer(self.run_id, path, answer, asked_at=asked_at)

    async def fork(
        self, *, at: str | int = "", outputs: Mapping[str, Any] | None = None, redo_irreversible: bool = False
    ) -> RunHandle[Any]:
        """Start a new run from the middle of this one; see Engine.fork."""
        return await self._engine.fork(self.run_id, at=at, outputs=outputs, redo_irreversible=redo_irreversible)

    async def retry(self, *, redo_irreversible: bool = False) -> RunHandle[Any]:
        """Go on from where the run failed, as a new run; see Engine.retry."""
        return await self._engine.retry(self.run_id, redo_irreversible=redo_irreversible)
