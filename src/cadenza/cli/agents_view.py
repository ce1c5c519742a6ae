"""How agents are shown: a table that fits the terminal, one card in full, and JSON."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, cast

import msgspec

from cadenza.cli.board import seconds
from cadenza.cli.streams import clean, out, paint, show
from cadenza.routing.instance import Instance

GAP = 2
CELL_MAX = 44
LABEL = 13
DESCRIPTION_MIN = 16
STYLES = {"here": "green", "elsewhere": "cyan", "card only": "magenta", "ill": "red"}


def key_of(instance: Instance) -> str:
    """The key, without the slash where the instance has no name."""
    return clean(instance.key.removesuffix("/"))


def state_of(instance: Instance) -> str:
    """``here`` (can be called), ``elsewhere`` (other processes run it), ``card only``, or ``ill``."""
    if not instance.healthy:
        return "ill"
    if instance.agent is not None:
        return "here"
    return "elsewhere" if instance.workers else "card only"


def as_dict(instance: Instance) -> dict[str, Any]:
    """An instance, as scripts see it. Times are microseconds since 1970; 0 is never."""
    return {
        "key": instance.key,
        "agent": instance.card.name,
        "version": instance.card.version,
        "instance": instance.name,
        "state": state_of(instance),
        "callable": instance.agent is not None,
        "healthy": instance.healthy,
        "problem": instance.problem,
        "workers": instance.workers,
        "last_seen_at": instance.last_seen_at,
        "source": instance.source,
        "health_url": instance.health_url,
        "card": msgspec.to_builtins(instance.card),
    }


def price(instance: Instance) -> str:
    """What a call is expected to cost; empty if that is unknown, which is not zero."""
    usd = instance.card.price_usd
    return "" if usd is None else f"${usd:.4f}".rstrip("0").rstrip(".") if usd else "free"


def seen(instance: Instance) -> str:
    if not instance.last_seen_at:
        return ""
    return f"{seconds(time.time_ns() // 1_000 - instance.last_seen_at)} ago"


def print_instances(instances: Sequence[Instance]) -> None:
    """A table, the instances of an agent together; columns that matter less are left out in a narrow terminal."""
    if not instances:
        return
    from rich.text import Text

    console = out()
    place = {each.card.name: number for number, each in reversed(list(enumerate(instances)))}
    instances = sorted(instances, key=lambda each: place[each.card.name])
    columns = _fitting(_columns(instances), console.width)
    widths = {name: _width(name, cells) for name, cells in columns.items()}
    left = console.width - sum(width + GAP for width in widths.values())
    described = [clean(" ".join(each.card.description.split())) for each in instances]
    if left >= DESCRIPTION_MIN and any(described):
        columns["description"], widths["description"] = described, left
    head = "  ".join(f"{name:<{width}}" for name, width in widths.items())
    console.print(Text(head.rstrip(), "bold"), no_wrap=True, crop=True)
    for cells in zip(*columns.values(), strict=True):
        line = Text()
        for (name, width), cell in zip(widths.items(), cells, strict=True):
            cut = cell if len(cell) <= width else f"{cell[: width - 1]}…"
            line.append(f"{cut:<{width}}  ", STYLES.get(cell, "") if name == "state" else "")
        line.rstrip()
        console.print(line, no_wrap=True, overflow="ellipsis")


def _columns(instances: Sequence[Instance]) -> dict[str, list[str]]:
    """In the order in which they are shown; those that would be empty are left out."""
    columns = {
        "agent": [each.card.name for each in instances],
        "version": [each.card.version for each in instances],
        "instance": [each.name for each in instances],
        "state": [state_of(each) for each in instances],
        "skills": [", ".join(skill.id for skill in each.card.skills) for each in instances],
        "placement": [", ".join(each.card.placement) for each in instances],
        "data": [", ".join(each.card.data_classes) for each in instances],
        "price": [price(each) for each in instances],
        "latency": ["" if each.card.latency_s is None else f"{each.card.latency_s:g} s" for each in instances],
        "seen": [seen(each) for each in instances],
        "owner": [each.card.owner for each in instances],
    }
    return {name: [clean(cell) for cell in cells] for name, cells in columns.items() if any(cells)}


LEAST_FIRST = ("owner", "latency", "seen", "data", "price", "version", "placement", "instance", "skills")


def _fitting(columns: dict[str, list[str]], width: int) -> dict[str, list[str]]:
    for name in LEAST_FIRST:
        if sum(_width(each, cells) + GAP for each, cells in columns.items()) - GAP <= width:
            break
        columns.pop(name, None)
    return columns


def _width(name: str, cells: list[str]) -> int:
    return min(CELL_MAX, max(len(name), *map(len, cells)))


def print_one(instance: Instance) -> None:
    """All that is known of an instance."""
    card, state = instance.card, state_of(instance)
    style = STYLES[state]
    about = {
        "here": "this process can call it",
        "elsewhere": "1 other process runs it"
        if instance.workers == 1
        else f"{instance.workers} other processes run it",
        "card only": "nobody here can call it",
        "ill": "",
    }[state]
    show(paint(key_of(instance), "bold"))
    limits = [
        f"{card.concurrency} at once" if card.concurrency else "",
        f"{card.requests_per_minute:,} requests a minute" if card.requests_per_minute else "",
        f"{card.tokens_per_minute:,} tokens a minute" if card.tokens_per_minute else "",
    ]
    rows = [
        ("state", f"{paint(state, style)}{f'  {about}' if about else ''}"),
        ("problem", instance.problem),
        ("description", card.description),
        ("purpose", card.purpose),
        ("owner", card.owner),
        ("price", price(instance) and f"{price(instance)} a call"),
        ("latency", "" if card.latency_s is None else f"{card.latency_s:g} s"),
        ("limits", ", ".join(each for each in limits if each)),
        ("placement", ", ".join(card.placement)),
        ("data", ", ".join(card.data_classes)),
        ("seen", seen(instance)),
        ("health", instance.health_url),
        ("source", "" if instance.source == "code" else instance.source),
    ]
    for name, value in rows:
        if value:
            show(f"  {name:<{LABEL}}{value if name == 'state' else clean(value)}")
    for skill in card.skills:
        tags = f"  [{', '.join(skill.tags)}]" if skill.tags else ""
        show(f"  {'skill':<{LABEL}}{clean(f'{skill.id}{tags}  {skill.description}').rstrip()}")
        for example in skill.examples:
            show(f"  {'':<{LABEL}}e.g. {clean(example)}")
    for name, schema in (("input", card.input_schema), ("output", card.output_schema)):
        show(f"  {name:<{LABEL}}{clean(in_words(schema))}")


def in_words(schema: dict[str, Any] | None) -> str:
    """A schema in one line: ``{name: string, employees?: integer}``."""
    if schema is None:
        return "unknown: the card has no schema"
    return _words(schema, schema.get("$defs", {}), 0) or "anything"


def _words(schema: Any, named: dict[str, Any], depth: int) -> str:
    if not isinstance(schema, dict) or depth > 3:
        return ""
    found = cast("dict[str, Any]", schema)
    if "$ref" in found:
        return _words(named.get(str(found["$ref"]).rpartition("/")[2], {}), named, depth + 1)
    for word in ("anyOf", "oneOf"):
        if word in found:
            return " or ".join(dict.fromkeys(_words(each, named, depth + 1) or "anything" for each in found[word]))
    if "enum" in found:
        return " or ".join(repr(each) for each in found["enum"][:6])
    if "const" in found:
        return repr(found["const"])
    kind = found.get("type", "")
    if kind == "array":
        return f"list of {_words(found.get('items'), named, depth + 1) or 'anything'}"
    if kind == "object" and "properties" in found:
        required = found.get("required", ())
        fields = [
            f"{name}{'' if name in required else '?'}: {_words(each, named, depth + 1) or 'anything'}"
            for name, each in found["properties"].items()
        ]
        return "{" + ", ".join(fields) + "}"
    return str(kind)
