"""What would mend a mismatch between a journal and the code: advice for the person who is about to deploy it."""

from __future__ import annotations

from cadenza.durable import commands, events
from cadenza.durable.define import steps, workflows
from cadenza.durable.delivery import fits
from cadenza.durable.machine import Machine
from cadenza.errors import CadenzaError, Nondeterminism

OLD_TYPE = "let the type of the result take the old value too: give new fields a default, or accept either type"


def how_to_mend(machine: Machine, journal: list[events.AnyEvent], error: Nondeterminism) -> str:
    """Advice, in one sentence, on a replay of ``journal`` that has ended with ``error``."""
    path = error.path
    names = _recorded(journal)
    name = names.get(path, "")
    future = machine.open.get(path)
    if error.expected.endswith("that fits its type") or error.expected == "an input that fits its type":
        return OLD_TYPE
    if not path:
        return "deploy the old code again, or let the workflow do what it did before"
    if name and name not in steps and name not in workflows:
        return _put_back(name, path, machine)
    if future is not None:
        return _other_call(future.command, name, path)
    outcomes = {getattr(each, "path", ""): each for each in journal if isinstance(each, events.Outcome)}
    new = [
        at
        for at, each in machine.open.items()
        if at not in names or (at in outcomes and not fits(each.command, outcomes[at]))
    ]
    if new:
        what = _label(new[0])
        return (
            f"guard the new call at {new[0]}, which runs under way have not made: "
            f'if ctx.patched("{what}"): … (the call of {what})'
        )
    first = next(iter(machine.open), "")
    if first and _comes_later(machine, journal, path):
        return (
            f"{_label(path)} came before {_label(first)}: restore that order, or keep both: "
            f'if ctx.patched("{_label(path)}-order"): (new order) else: (old order)'
        )
    return (
        f"keep the call of {_label(path)} for runs under way: "
        f'if not ctx.patched("without-{_label(path)}"): … (the call of {_label(path)})'
    )


def _comes_later(machine: Machine, journal: list[events.AnyEvent], path: str) -> bool:
    """Whether the code asks for ``path`` once it is given what else the journal holds."""
    try:
        for event in journal:
            future = machine.open.get(getattr(event, "path", ""))
            if future is not None and isinstance(event, events.Outcome) and fits(future.command, event):
                machine.apply(event)
            if path in machine.open:
                return True
    except CadenzaError:
        pass
    return False


def _recorded(journal: list[events.AnyEvent]) -> dict[str, str]:
    """The paths that a journal speaks of, and the functions that were called there."""
    names: dict[str, str] = {}
    for event in journal:
        path: str = getattr(event, "path", "")
        if path:
            names[path] = getattr(event, "workflow", "") or getattr(event, "name", "") or names.get(path, "")
        if isinstance(event, events.Parked):
            for waiting in event.waiting:
                names.setdefault(waiting, "")
    return {path: name if ":" in name else "" for path, name in names.items()}


def _put_back(name: str, path: str, machine: Machine) -> str:
    called = [each.command.name for each in machine.open.values() if isinstance(each.command, commands.RunStep)]
    renamed = f" (was it renamed to {called[0]}?)" if called else ""
    return f"put {name} back under its name, and its call at {path}{renamed}"


def _other_call(command: commands.Opened, name: str, path: str) -> str:
    label = _label(path)
    if isinstance(command, commands.RunStep) and name and command.name != name:
        return (
            f"the call at {path} is of {command.name} now, and was of {name}: "
            f'if ctx.patched("{label}-moved"): (the new function) else: (the old one)'
        )
    if isinstance(command, commands.StartChild) and name and command.name != name:
        return (
            f"the child at {path} is of {command.name} now, and was of {name}: "
            f'if ctx.patched("{label}-moved"): (the new workflow) else: (the old one)'
        )
    if isinstance(command, commands.RunStep | commands.StartChild | commands.SendMessage):
        return (
            f"{label} is given something else than it was: "
            f'if ctx.patched("{label}-input"): (the new call) else: (the old one)'
        )
    if isinstance(command, commands.StartTimer):
        return (
            f"the timer at {path} is of another length than the one that has fired: "
            f'if ctx.patched("{label}-length"): (the new length) else: (the old one)'
        )
    if isinstance(command, commands.OpenTask):
        return (
            f"an answer to {path} would be to another question: its kind, options or value changed: "
            f'if ctx.patched("{label}-question"): (the new question) else: (the old one)'
        )
    return f'let {path} be what it was: if ctx.patched("{label}"): (the new call) else: (the old one)'


def _label(path: str) -> str:
    """The name in a path, as it can stand in a patch id: ``b1/charge#2`` is of ``charge``."""
    leaf = path.rpartition("/")[2].partition("#")[0]
    return leaf.removeprefix("@").replace(":", "-")
