"""The undo stack of a run: a saga's compensations, derived by replay, run in reverse when the run fails.

An entry is made when a compensatable step has its outcome (the outcome is the undo's argument), or when it may have
acted without one (the argument is None), or by ``ctx.compensate``. Each undo is a step with an effect class of its own,
and its intent is committed before it starts.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from cadenza.durable import codec, commands, events
from cadenza.durable.define import StepFunction, find_step
from cadenza.durable.delivery import step_outcome
from cadenza.durable.ending import MISTAKES
from cadenza.durable.path import UNDO, idempotency_key
from cadenza.errors import CadenzaError

if TYPE_CHECKING:
    from cadenza.durable.machine import Machine


class UndoStack:
    """Last in, first undone."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._entries: list[events.Undo] = []

    def entries(self) -> tuple[events.Undo, ...]:
        return tuple(self._entries)

    def restore(self, entries: Iterable[events.Undo]) -> None:
        """Take over the stack of the generation before; paths are renamed, since they may occur again in this one."""
        self._entries = [
            events.Undo(path=f"@carried#{index}{UNDO}", name=entry.name, arguments=entry.arguments, key=entry.key)
            for index, entry in enumerate(entries, 1)
        ]

    def note(self, command: commands.Opened, outcome: bytes) -> None:
        """A step has its outcome; if it is compensatable, remember how to undo it."""
        if isinstance(command, commands.RunStep) and command.step.undo is not None:
            self._push(command, command.step.undo, outcome)

    def left_in_doubt(self, command: commands.RunStep) -> None:
        """A step may have acted, and has no outcome."""
        if command.step.undo is not None:
            self._push(command, command.step.undo, b"null")

    def _push(self, command: commands.RunStep, undo: StepFunction[..., Any], outcome: bytes) -> None:
        key = idempotency_key(self._machine.run_id, self._machine.generation, command.path)
        self._entries.append(events.Undo(command.path + UNDO, undo.name, (outcome,), key))

    def register(self, path: str, undo: StepFunction[..., Any], args: tuple[Any, ...]) -> None:
        """``ctx.compensate``: the arguments are bound now."""
        types = undo.positional
        raw = tuple(
            codec.encode(value, types[index] if index < len(types) else Any, f"argument {index + 1} of {undo.label}")
            for index, value in enumerate(args)
        )
        self._entries.append(events.Undo(path + UNDO, undo.name, raw))

    async def unwind(self, undone: list[str], left: list[str]) -> None:
        """Undo everything, last first; one that fails does not keep the others from being tried.

        Args:
            undone: gets the paths that were undone.
            left: gets the paths that were not, and why.

        Raises:
            One of MISTAKES: an undo function is gone, or does not take what was bound for it.
        """
        while self._entries:
            entry = self._entries.pop()
            try:
                await self._run(entry)
                undone.append(entry.path.removesuffix(UNDO))
            except MISTAKES:
                raise
            except (CadenzaError, *self._declared(entry)) as error:
                left.append(f"{entry.path.removesuffix(UNDO)} ({error})")

    def _declared(self, entry: events.Undo) -> tuple[type[Exception], ...]:
        try:
            return find_step(entry.name).settings.raises
        except CadenzaError:
            return ()

    async def _run(self, entry: events.Undo) -> None:
        undo = find_step(entry.name)
        types = undo.positional
        args = tuple(
            codec.decode(raw, types[index] if index < len(types) else Any, f"argument {index + 1} of {undo.label}")
            if raw != b"null"
            else None
            for index, raw in enumerate(entry.arguments)
        )
        hashed = codec.fingerprint([args, {}], f"the arguments of {undo.label}")
        await self._machine.issue(
            commands.RunStep(entry.path, undo, args, {}, hashed, entry.key or entry.path), step_outcome
        )
