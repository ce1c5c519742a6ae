"""What workflow code asks for when its recorded outcomes are played to it: as plain data, to be kept and compared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import msgspec
from pydantic_core import from_json, to_jsonable_python

from cadenza.durable import commands, events
from cadenza.durable.define import WorkflowFunction
from cadenza.durable.machine import Machine

Request = dict[str, Any]


def retrace(
    workflow: WorkflowFunction[..., Any], journal: list[events.AnyEvent]
) -> Iterator[tuple[int, list[tuple[Request, commands.Command]]]]:
    """Play one generation's journal to its code, event by event.

    Yields:
        The event's place, and what the code asked for when it had it.

    Raises:
        WorkflowBug: the code has no use for the next event.
    """
    machine = Machine(workflow, [])
    machine.patches.expect(event.id for event in journal if isinstance(event, events.Patched))
    try:
        for index, event in enumerate(journal):
            machine.replaying = index < len(journal) - 1
            machine.apply(event)
            asked = [(_request(each, event.at), each) for each in machine.take_commands()]
            yield index, [(request, command) for request, command in asked if request]
    finally:
        machine.evict()


def _request(command: commands.Command, at: int) -> Request:
    """A command as data; empty for what follows from the others."""
    match command:
        case commands.RunStep(path=path, name=name, args=args, kwargs=kwargs):
            given: dict[str, Any] = {"kwargs": plain(kwargs)} if kwargs else {}
            return {"step": name, "path": path, "input": plain(list(args)), **given}
        case commands.StartTimer(path=path, fire_at=fire_at):
            return {"timer": path, "seconds": round((fire_at - at) / 1e6, 6)}
        case commands.AwaitMessage(path=path, name=name):
            return {"wait for": name, "path": path}
        case commands.SendMessage(path=path, to=to, name=name, value=value):
            return {"send": name, "path": path, "to": to, "value": from_json(value)}
        case commands.OpenTask(path=path, task=task):
            return {"ask": path, "task": plain(task)}
        case commands.StartChild(path=path, name=name, input=raw):
            return {"child": name, "path": path, "input": from_json(raw)}
        case commands.AwaitChild(path=path, run_id=run_id):
            return {"wait for child": run_id, "path": path}
        case commands.Cancel(path=path):
            return {"cancel": path}
        case commands.Finish(ending=ending):
            return {"end": _ending(ending)}
        case _:
            return {}


def _ending(ending: commands.Ending) -> Any:
    match ending:
        case commands.Completed(value=value):
            return {"completed": from_json(value)}
        case commands.Failed(failure=failure):
            return {"failed": str(failure)}
        case commands.Cancelled(reason=reason):
            return {"cancelled": reason}
        case commands.Continued(input=given):
            return {"continued": from_json(given)}
        case commands.Blocked(detail=detail):
            return {"blocked": detail}


def plain(value: Any) -> Any:
    """A value as JSON data."""
    return to_jsonable_python(value, fallback=repr)


def difference(expected: Any, found: Any, where: str = "") -> tuple[str, Any, Any] | None:
    """The first place at which two values differ, and what is there in each; None if they are equal."""
    if expected == found:
        return None
    if isinstance(expected, dict) and isinstance(found, dict):
        one, other = cast("dict[str, Any]", expected), cast("dict[str, Any]", found)
        for key in [*one, *(key for key in other if key not in one)]:
            missing = msgspec.UNSET
            differs = difference(one.get(key, missing), other.get(key, missing), f"{where}.{key}".lstrip("."))
            if differs is not None:
                return differs
    if isinstance(expected, list) and isinstance(found, list):
        first, second = cast("list[Any]", expected), cast("list[Any]", found)
        for index in range(max(len(first), len(second))):
            one_item = first[index] if index < len(first) else msgspec.UNSET
            other_item = second[index] if index < len(second) else msgspec.UNSET
            differs = difference(one_item, other_item, f"{where}[{index}]")
            if differs is not None:
                return differs
    return where, cast("Any", expected), cast("Any", found)


def shown(value: Any) -> str:
    """For a message."""
    if value is msgspec.UNSET:
        return "(nothing)"
    text = msgspec.json.encode(value).decode() if not isinstance(value, str) else repr(value)
    return text if len(text) <= 600 else text[:599] + "…"
