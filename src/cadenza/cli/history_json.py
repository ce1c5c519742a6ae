"""A run's history as plain data, for scripts: ``cadenza show RUN --json``."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from cadenza.cli.history import Generation, History, Item
from cadenza.cli.history_tree import path_order
from cadenza.cli.questions import Question
from cadenza.cli.report import failure_json
from cadenza.cli.runs import as_dict


def history_json(history: History, questions: list[Question], alive: set[str]) -> dict[str, Any]:
    """A run with its generations, steps, open questions and child runs. Times are microseconds since 1970."""
    shown = as_dict(history.row, alive)
    shown |= {
        "input": _value(history.input),
        "result": _value(history.result),
        "failure": failure_json(history.failure),
        "reason": history.reason,
        "events": len(history.events),
        "generations": [_generation(each) for each in history.generations],
        "questions": [each.as_json() for each in questions if each.run_id == history.row.run_id],
        "children": [history_json(child, questions, alive) for child in history.children.values()],
        "attributes": history.attributes(),
        "copied_requests": history.copied(),
        "usage": [dataclasses.asdict(each) for each in history.used()],
        "cut": history.cut,
    }
    return shown


def _generation(generation: Generation) -> dict[str, Any]:
    items = sorted(generation.items.values(), key=lambda item: (not item.began, item.began, path_order(item.path)))
    return {
        "generation": generation.number,
        "input": _value(generation.input),
        "began_at": generation.began,
        "ended_at": generation.ended,
        "patches": generation.patches,
        "waiting": list(generation.waiting) if not generation.ended else [],
        "steps": [_item(item) for item in items],
    }


def _item(item: Item) -> dict[str, Any]:
    return {
        "path": item.path,
        "kind": item.kind,
        "name": item.name,
        "state": item.state,
        "attempts": item.attempts,
        "began_at": item.began,
        "ended_at": item.ended,
        "input": _value(item.input),
        "input_hash": item.input_hash,
        "value": _value(item.value),
        "failure": failure_json(item.failure),
        "tries": [
            {"attempt": each.attempt, "at": each.at, "failure": failure_json(each.failure)} for each in item.tries
        ],
        "memos": [{"key": each.key, "effect": each.effect, "value": _value(each.value)} for each in item.memos],
        "notes": item.notes,
        "usage": [dataclasses.asdict(each) for each in item.used()],
        "child": item.child,
        "done_by": item.done_by,
    }


def _value(raw: bytes) -> Any:
    return json.loads(raw) if raw else None
