"""Why an agent was chosen, read from the journal alone: the table of each choice, what followed, and "what if".

``rescored`` weighs the scores that were recorded anew: it asks no scorer, and draws nothing again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import msgspec

from cadenza.durable import events
from cadenza.errors import UnknownName, UsageError
from cadenza.routing.cascade import record, said_of
from cadenza.routing.choice import Choice, Row
from cadenza.routing.need import Need
from cadenza.routing.router import choose, observe
from cadenza.routing.score import PRESETS
from cadenza.routing.table import unpack

MOST_SHOWN = 10
KEYS_SHOWN = 3
WIDE_MAX = 30


@dataclass(frozen=True, slots=True)
class Explained:
    """One choice of a run.

    Attributes:
        path: of the step that chose.
        at: microseconds since 1970.
        then: what followed in its branch: paths of calls, and how they ended.
    """

    path: str
    at: int
    choice: Choice
    then: tuple[str, ...] = ()


def choices_in(journal: Sequence[events.AnyEvent]) -> list[Explained]:
    """Every choice of a run, in their order."""
    found: list[Explained] = []
    for place, event in enumerate(journal):
        if isinstance(event, events.StepCompleted) and event.name == choose.name:
            made = unpack(msgspec.json.decode(event.value))
            found.append(Explained(event.path, event.at, made, _what_followed(journal, place)))
    return found


def levels_in(journal: Sequence[events.AnyEvent]) -> list[tuple[str, str]]:
    """Every level of the run's cascades: its path, and how it went in words."""
    return [
        (event.path, said_of(msgspec.json.decode(event.value)))
        for event in journal
        if isinstance(event, events.StepCompleted) and event.name == record.name
    ]


def _what_followed(journal: Sequence[events.AnyEvent], place: int) -> tuple[str, ...]:
    """How the calls of the same branch ended, up to its next choice."""
    branch = cast("events.StepCompleted", journal[place]).path.rpartition("/")[0]
    said: list[str] = []
    for event in journal[place + 1 :]:
        path = str(getattr(event, "path", ""))
        if not path.startswith(f"{branch}/" if branch else ""):
            continue
        match event:
            case events.StepCompleted(name=name) if name == choose.name:
                break
            case events.StepCompleted(name=name) if name != observe.name and ":definition" not in name:
                said.append(f"{path} completed")
            case events.StepFailed(failure=failure):
                said.append(f"{path} failed: {failure}")
            case events.AttemptFailed(failure=failure, attempt=attempt):
                said.append(f"{path} failed in attempt {attempt}: {failure}")
            case events.TaskAnswered():
                said.append(f"{path} answered")
            case events.ChildEnded(status=status):
                said.append(f"{path} {status}")
            case _:
                pass
        if not branch and said:
            break
    return tuple(said)


def named(choices: Sequence[Explained], step: str) -> list[Explained]:
    """The choices that a person means by a path: of the choice, or of a call or branch that it belongs to.

    Raises:
        UnknownName: there is none; with the paths that there are.
    """
    exact = [each for each in choices if each.path == step]
    if exact:
        return exact
    branch = step.rpartition("/")[0] if "#" in step else step.rstrip("/")
    inside = [each for each in choices if branch and each.path.startswith(f"{branch}/")]
    above = [each for each in choices if f"{step}/".startswith(f"{each.path.rpartition('/')[0]}/") and "/" in each.path]
    found = inside or above
    if not found:
        raise UnknownName("choice", step, [each.path for each in choices], "cadenza explain RUN lists them.")
    return found


# --- what if ----------------------------------------------------------------------------------------------------------


def parse_weights(text: str) -> dict[str, float]:
    """``price=2,performance=0`` as weights. Raises UsageError."""
    weights: dict[str, float] = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        name, _, number = part.partition("=")
        try:
            weights[name.strip()] = float(number)
        except ValueError:
            raise UsageError(f"{part!r} is no weight: write scorer=number, as in price=2,performance=0") from None
        if not 0 <= weights[name.strip()] < float("inf"):
            raise UsageError(f"{part!r}: a weight is a number from 0 up")
    return weights


def rescored(choice: Choice, weights: Mapping[str, float], prefer: str = "") -> Choice:
    """The same choice with other weights.

    Args:
        weights: replace those of the same scorers.
        prefer: a preset whose weights replace all, before ``weights``.

    Raises:
        UnknownName: no such preset, or a scorer that had no part in the choice, so that there are no scores of its.
    """
    if prefer and prefer not in PRESETS:
        raise UnknownName("preset", prefer, PRESETS)
    preset: dict[str, float] = PRESETS[prefer] if prefer else {}
    whole = {name: preset.get(name, weight) for name, weight in choice.weights.items()}
    for name, weight in weights.items():
        if name not in choice.scorers:
            hint = "Only scores that were recorded can be weighed anew."
            raise UnknownName("score of this choice", name, choice.scorers, hint)
        whole[name] = weight
    rows = [replace(row, total=_total(row, whole)) for row in choice.rows if not row.refused]
    rows.sort(key=lambda row: (-row.total, row.key != choice.winner))
    refused = [row for row in choice.rows if row.refused]
    winner = rows[0].key if rows else ""
    return replace(choice, rows=(*rows, *refused), weights=whole, winner=winner)


def _total(row: Row, weights: Mapping[str, float]) -> float:
    said = [(weights.get(name, 0.0), score.value) for name, score in row.scores.items() if score.value is not None]
    whole = sum(weight for weight, _ in said)
    return round(sum(weight * value for weight, value in said) / whole, 4) if whole else 0.0


def verdict(before: Choice, after: Choice) -> str:
    """Whether other weights change the winner, in a sentence."""
    if not after.winner:
        return "Nobody would be chosen with these weights either."
    if after.winner == before.winner:
        return f"The winner stays {before.winner}."
    return f"The winner would be {after.winner}, in place of {before.winner or 'nobody'}."


# --- for people -------------------------------------------------------------------------------------------------------


def lines_of(choice: Choice, width: int = 80) -> list[str]:
    """The table as text: candidates with their scores, the winner marked, and why the others are none."""
    lines: list[str] = []
    candidates = [row for row in choice.rows if not row.refused]
    if candidates:
        lines += _candidates(choice, candidates, width)
    else:
        lines.append("  nobody was left to choose from")
    if refused := [row for row in choice.rows if row.refused]:
        lines += ["", "  refused", *_refused(refused, width)]
    if choice.left_out:
        lines.append(f"  … and {choice.left_out:,} more, which the table does not keep")
    return lines


def _candidates(choice: Choice, rows: Sequence[Row], width: int) -> list[str]:
    names = [name for name in choice.scorers if any(row.scores[name].value is not None for row in rows)]
    room = max(12, min(WIDE_MAX, max(len(row.key) for row in rows)))
    each_max = max(5, (width - 6 - room - 7) // max(1, len(names)) - 2)
    heads = [name[:each_max] for name in names]
    widths = [max(5, len(head)) for head in heads]
    cells = "".join(f"  {head:>{wide}}" for head, wide in zip(heads, widths, strict=True))
    lines = [f"    {'':<{room}}  total{cells}"]
    weights = "".join(
        f"  {_number(choice.weights.get(name, 0)):>{wide}}" for name, wide in zip(names, widths, strict=True)
    )
    lines.append(f"    {'weight':<{room}}       {weights}")
    for row in rows[:MOST_SHOWN]:
        mark = "▸" if row.key == choice.winner else " "
        said = "".join(f"  {_value(row.scores[name].value):>{wide}}" for name, wide in zip(names, widths, strict=True))
        lines.append(f"  {mark} {_cut(row.key, room):<{room}}  {row.total:.3f}{said}")
    if len(rows) > MOST_SHOWN:
        lines.append(f"    … and {len(rows) - MOST_SHOWN} candidates more")
    silent = [name for name in choice.scorers if name not in names]
    if silent:
        lines.append(f"    nothing to say: {', '.join(silent)}")
    if (version := choice.scorers.get("semantic", "")) and "semantic" in names:
        lines.append(f"    semantic: {'words in common' if version.startswith('lexical') else 'vectors'} ({version})")
    for row in rows[:KEYS_SHOWN]:
        if made := _made_of(row):
            lines.append(_cut(f"    {_cut(row.key, room)}: {made}", max(width, 40)))
    return lines


def _made_of(row: Row) -> str:
    parts: list[str] = []
    for score in row.scores.values():
        said = [f"{name} {_number(value)}" for name, value in score.known.items()]
        if said:
            parts.append(", ".join(said))
    return "; ".join(parts)


def _refused(rows: Sequence[Row], width: int) -> list[str]:
    by_reason: dict[str, list[str]] = {}
    for row in rows:
        by_reason.setdefault(row.refused, []).append(row.key)
    lines: list[str] = []
    for reason, keys in by_reason.items():
        more = f" and {len(keys) - KEYS_SHOWN} more" if len(keys) > KEYS_SHOWN else ""
        lines.append(_cut(f"    {reason}", width))
        lines.append(_cut(f"      {', '.join(keys[:KEYS_SHOWN])}{more}", width))
    return lines


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else str(value)


def _value(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def summary(need: Need) -> str:
    """How the choice was to be made: its preset, and what else was asked for."""
    said = [f"prefer {need.prefer}"]
    if need.abstain_below:
        said.append(f"abstain below {need.abstain_below:g}")
    if need.router:
        said.append(f"chosen by {need.router}")
    return ", ".join(said)
