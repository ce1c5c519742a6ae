"""The registry as the router reads it: by key and by name, in one look each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from cadenza.errors import UnknownName
from cadenza.routing.instance import Instance
from cadenza.routing.registry import registry


@dataclass(frozen=True, slots=True)
class Known:
    """What is looked up in one state of the registry."""

    all: Sequence[Instance]
    by_key: dict[str, Instance]
    with_code: Counter[str]


_known = Known((), {}, Counter())


def known() -> Known:
    """The registry as it is now."""
    global _known  # noqa: PLW0603  # a cache of one state
    now = registry.instances()
    if now is not _known.all:
        with_code = Counter(each.card.name for each in now if each.agent is not None)
        _known = Known(now, {each.key: each for each in now}, with_code)
    return _known


def instance_of(key: str) -> Instance:
    """The instance of this key; where a deploy has replaced it, the one that has its name. Raises UnknownName."""
    exact = known().by_key.get(key)
    if exact is not None and exact.agent is not None:
        return exact
    name, _, rest = key.partition("@")
    place = rest.partition("/")[2]
    here = [each for each in known().all if each.card.name == name and each.agent is not None]
    for each in here:
        if each.name == place:
            return each
    if here:
        return here[0]
    hint = "It was chosen, and this process has no code for it. Import the module that defines it."
    raise UnknownName("agent", name, known().with_code, hint)
