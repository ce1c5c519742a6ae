"""Recordings: a real run as an offline regression test.

A recording holds what a run and its children were told (their journals) and what their code asked for: step calls with
their inputs, questions, timers, child runs, the prompts and tool calls of LLM agents. ``assert_unchanged`` plays the
journals to the present code, without calling anything, and names the first thing that it asks for otherwise.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any, cast

import msgspec

from cadenza.durable import commands, events
from cadenza.durable.define import WorkflowFunction, find_workflow, workflows
from cadenza.durable.path import idempotency_key
from cadenza.engine.engine import Engine
from cadenza.engine.handle import RunHandle
from cadenza.engine.store import Filter, RunRow
from cadenza.errors import UsageError, WorkflowBug
from cadenza.testing.play import play
from cadenza.testing.retrace import Request, difference, retrace, shown
from cadenza.testing.script import AGENT

FORMAT = 1
DEFINITION = ":definition"
HINT = "If the change is meant, record the run anew."


async def record(run: RunHandle[Any], path: str | Path = "") -> dict[str, Any]:
    """A run and its children as a recording, written to ``path`` if it is given. The code must be what made the run.

    Raises:
        UsageError: the present code asks for something else than the run did.
    """
    engine: Engine = run._engine  # pyright: ignore[reportPrivateUsage] - a handle is how tests hold a run
    return await record_run(engine, run.run_id, path)


async def record_run(engine: Engine, run_id: str, path: str | Path = "") -> dict[str, Any]:
    """See ``record``."""
    row = engine.find(run_id)
    family = [row]
    for parent in family:  # grows while it is read
        family += engine.runs(Filter(parent=parent.run_id, limit=1_000_000))[::-1]
    made = {
        "cadenza_recording": FORMAT,
        "workflow": row.workflow,
        "runs": [await _recorded(engine, each) for each in family],
    }
    if path:
        _write(Path(path), made)
    return made


async def _recorded(engine: Engine, row: RunRow) -> dict[str, Any]:
    generations: list[dict[str, Any]] = []
    for journal in _generations(engine.journal(row.run_id)):
        try:
            asked, turns = await _retraced(find_workflow(row.workflow), journal, None)
        except (WorkflowBug, AssertionError) as error:
            raise UsageError(
                f"run {row.run_id} cannot be recorded: the present code of {row.workflow} asks for something else than "
                f"the run did. Record it with the code that made it. {error}"
            ) from error
        generations.append({"asked": asked, "turns": turns, "journal": [_to_json(each) for each in journal]})
    return {"run_id": row.run_id, "workflow": row.workflow, "generations": generations}


def assert_unchanged(path: str | Path) -> None:
    """Play a recording to the present code. Nothing is called: no step, no tool, no model.

    Raises:
        AssertionError: the code asks for something else than was recorded; names the path, what was expected and what
            was found.
        UsageError: the file is no recording.
    """
    recording = _read(Path(path))

    async def main() -> None:
        for run in recording["runs"]:
            workflow = _workflow(run["workflow"], path)
            for number, generation in enumerate(run["generations"]):
                journal = [_from_json(each) for each in generation["journal"]]
                where = f"{path}: {run['workflow']}" + (f", generation {number}" if number else "")
                try:
                    await _retraced(workflow, journal, generation, where)
                except WorkflowBug as error:
                    raise AssertionError(f"{where}: {error}. {HINT}") from error

    play(main())


async def _retraced(
    workflow: WorkflowFunction[..., Any],
    journal: list[events.AnyEvent],
    expected: dict[str, Any] | None,
    where: str = "",
) -> tuple[list[list[Request]], dict[str, Any]]:
    """What the code asks for, event by event; compared with what is ``expected`` before the next event is played."""
    asked: list[list[Request]] = []
    turns: dict[str, Any] = {}
    steps: dict[str, commands.RunStep] = {}
    for index, requests in retrace(workflow, journal):
        asked.append([request for request, _ in requests])
        if expected is not None:
            _compare(expected["asked"][index], asked[-1], where)
        for _, command in requests:
            if isinstance(command, commands.RunStep) and command.name.startswith(AGENT):
                steps[command.path] = command
        event = journal[index]
        if isinstance(event, events.StepCompleted | events.StepFailed) and event.path in steps:
            recorded = None if expected is None else expected["turns"].get(event.path)
            turns[event.path] = await _turn(steps[event.path], event, journal, recorded, where)
    return asked, turns


def _compare(expected: list[Request], found: list[Request], where: str) -> None:
    for place in range(max(len(expected), len(found))):
        one = expected[place] if place < len(expected) else None
        other = found[place] if place < len(found) else None
        if one == other:
            continue
        at = next((each["path"] for each in (one, other) if each and "path" in each), "")
        lines = [
            f"{where}{f', at {at}' if at else ''}: the code asks for something else.",
            f"  expected: {_told(one)}",
            f"  found:    {_told(other)}",
        ]
        if one and other and one.keys() == other.keys() and (differs := difference(one, other)) is not None:
            lines.append(f"  {differs[0]}: expected {shown(differs[1])}, found {shown(differs[2])}")
        raise AssertionError("\n".join([*lines, HINT]))


async def _turn(
    command: commands.RunStep,
    event: events.StepCompleted | events.StepFailed,
    journal: list[events.AnyEvent],
    recorded: Any,
    where: str,
) -> Any:
    """An LLM agent's turn or definition, made again; compared with what was ``recorded``."""
    from cadenza.testing.turns import definition_now, definition_recorded, take_turn_again  # heavy

    at = f"{where}, at {event.path}"
    if command.name.endswith(DEFINITION):
        assert isinstance(event, events.StepCompleted)
        name = command.name.removeprefix(AGENT).removesuffix(DEFINITION)
        found = definition_now(name)
        _same(definition_recorded(event.value), found, f"{at}: the agent {name!r} is defined otherwise")
        return found
    memos = {each.key: each for each in journal if isinstance(each, events.MemoSaved) and each.path == event.path}
    started = cast("events.RunStarted", journal[0])
    key = idempotency_key(started.run_id, started.generation, event.path)
    scope, answer = await take_turn_again(command, key, memos)
    if scope.problem:
        raise AssertionError(f"{at}: {scope.problem}. {HINT}")
    found = {"parts": scope.parts, "answer": answer}
    if recorded is not None:
        for part in [*recorded["parts"], *(each for each in scope.parts if each not in recorded["parts"])]:
            what = f"{at}: {part} is not what was recorded"
            _same(recorded["parts"].get(part, msgspec.UNSET), scope.parts.get(part, msgspec.UNSET), what)
        _same(recorded["answer"], answer, f"{at}: the agent's answer is another")
    elif scope.stale:
        raise AssertionError(f"{scope.stale[0]} at {event.path} is not what the run asked for")
    return found


def _same(expected: Any, found: Any, what: str) -> None:
    differs = difference(expected, found)
    if differs is not None:
        place = f" ({differs[0]})" if differs[0] else ""
        raise AssertionError(
            f"{what}{place}.\n  expected: {shown(differs[1])}\n  found:    {shown(differs[2])}\n{HINT}"
        )


def _told(request: Request | None) -> str:
    return "nothing more" if request is None else shown(request)


# --- files ------------------------------------------------------------------------------------------------------------


def _write(path: Path, recording: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(recording, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _read(path: Path) -> dict[str, Any]:
    try:
        made = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as a recording: {error}") from error
    if not isinstance(made, dict) or cast("dict[str, Any]", made).get("cadenza_recording") != FORMAT:
        raise UsageError(f"{path} is no recording of this version. Make one: cadenza record RUN -o {path}")
    return cast("dict[str, Any]", made)


def _workflow(name: str, path: str | Path) -> WorkflowFunction[..., Any]:
    module = name.partition(":")[0]
    if name not in workflows:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise AssertionError(f"{path}: the module {module!r} of {name} cannot be imported: {error}") from error
    if name not in workflows:
        raise AssertionError(f"{path}: there is no workflow {name} any more. {HINT}")
    return workflows[name]


def _generations(journal: list[events.AnyEvent]) -> list[list[events.AnyEvent]]:
    cut: list[list[events.AnyEvent]] = []
    for event in journal:
        if isinstance(event, events.RunStarted):
            cut.append([])
        cut[-1].append(event)
    return cut


def _to_json(event: events.AnyEvent) -> Any:
    return _unpacked(msgspec.to_builtins(event, builtin_types=(bytes,)))


def _from_json(data: Any) -> events.AnyEvent:
    return msgspec.convert(_packed(data), events.AnyEvent, builtin_types=(bytes,))


def _unpacked(value: Any) -> Any:
    """Bytes as the JSON that they hold. Tracebacks are left out: they name files of one machine."""
    if isinstance(value, bytes):
        try:
            return {"$json": json.loads(value)}
        except ValueError:
            return {"$text": value.decode()}
    if isinstance(value, dict):
        return {key: _unpacked(each) for key, each in cast("dict[str, Any]", value).items() if key != "trace"}
    return [_unpacked(each) for each in cast("list[Any]", value)] if isinstance(value, list | tuple) else value


def _packed(value: Any) -> Any:
    match value:
        case {"$json": data}:
            return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()
        case {"$text": text}:
            return cast("str", text).encode()
        case dict():
            return {key: _packed(each) for key, each in cast("dict[str, Any]", value).items()}
        case list():
            return [_packed(each) for each in cast("list[Any]", value)]
        case _:
            return value
