"""The registry: who there is, where it runs, what it can do, and whether it is well.

Agents of this process are in it by themselves, as the instance without a name. More instances and versions are added;
what other processes run, and what was added from a card's URL, is known from the catalogue: of the running step's
engine, or of the one that is given.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from cadenza.agents.agent import AnyAgent, agents, is_agent
from cadenza.agents.card import Card, Skill
from cadenza.durable.path import is_label
from cadenza.engine.catalogue import Catalogue, catalogue_of_step
from cadenza.errors import DefinitionError
from cadenza.routing.instance import Instance

if TYPE_CHECKING:  # imported where it is used: a program that chooses no agent does not pay for it
    from cadenza.agents.credential import Credential
    from cadenza.routing.discovery import Index
    from cadenza.routing.kept import Known

INDEXES_MAX = 4
REFRESH_S = 1.0
"""What others have written is read again after so many seconds."""


def wall_clock() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1_000


class Missing:
    """Stands where no value is given, as None may be one."""


MISSING = Missing()


class Registry:
    """All instances that are known. Safe to use from any thread.

    Args:
        registered: the agents of this process by name; those that are registered later are found too.
        now: the time in microseconds.
    """

    def __init__(self, registered: Mapping[str, AnyAgent] = agents, now: Callable[[], int] = wall_clock) -> None:
        self._registered, self.now = registered, now
        self._mutex = threading.RLock()
        self._added: dict[str, Instance] = {}
        self._seen: list[AnyAgent] = []
        self._own: tuple[Instance, ...] | None = None
        self._kept: WeakKeyDictionary[Catalogue, Known] = WeakKeyDictionary()
        self._merged: WeakKeyDictionary[Catalogue, tuple[Any, int, tuple[Instance, ...]]] = WeakKeyDictionary()
        self._indexes: list[Index] = []
        self._indexed: tuple[Instance, ...] | None = None

    def add(
        self,
        agent: AnyAgent,
        *,
        instance: str = "",
        health_url: str = "",
        **card_changes: Any,
    ) -> Instance:
        """Add an instance of an agent, or another version of one.

        Args:
            instance: its name, unique in its version (``eu-1``). Without one, the agent itself gets these changes.
            health_url: answers ``GET`` with 2xx while it is well.
            card_changes: fields of its card that differ from the agent's: ``placement``, ``version``, ``price_usd``, or
                ``name``, to make an agent of another name a version of this one.

        Raises:
            DefinitionError: there is an instance of this name, version and agent, or the changes make no sense.
        """
        if not is_agent(agent):
            raise DefinitionError(f"{agent!r} is not an agent. Decorate the function with @agent")
        if instance and not is_label(instance):
            raise DefinitionError(f"{instance!r} is no name of an instance; use letters, digits, '_', '-' and '.'")
        card, problem = card_of(agent)
        if problem:
            raise DefinitionError(problem)
        if unknown := [each for each in card_changes if each not in Card.__dataclass_fields__]:
            raise DefinitionError(f"{card.name}: {unknown[0]!r} is no field of a card")
        return self.put(_instance(agent, dataclasses.replace(card, **card_changes), instance, health_url, "code"))

    def put(self, made: Instance) -> Instance:
        """Add a ready instance.

        Raises:
            DefinitionError: there is an instance of this name, version and agent.
        """
        with self._mutex:
            self._check_free(made)
            self._added[made.key] = made
            self._own = None
        return made

    def add_card(
        self,
        source: str | Path | Mapping[str, Any],
        *,
        name: str = "",
        instance: str = "",
        auth: Credential | str | None = None,
        **card_changes: Any,
    ) -> Instance:
        """Read a remote agent's A2A card, and add the agent; it can be called if it has an HTTP+JSON interface.

        Args:
            source: the agent's URL (its card is at ``/.well-known/agent-card.json`` there), the URL of a card
                (``….json``), a file, or the card itself. It is read once, here.
            name: what the agent is called here; by default its own name in the form of one.
            instance: the name of this instance, where one agent is at several places.
            auth: Bearer, ApiKey or Basic; or the mere name of an environment variable, if the card says how it is used.
            card_changes: what no A2A card says: ``placement``, ``data_classes``, ``price_usd``, …

        Returns:
            The instance. If it cannot be called, ``agent`` is None and ``problem`` says why.

        Raises:
            CardInvalid: there is none, or it is no card. DefinitionError: the name and version are another agent's.
        """
        from cadenza.routing.remote_card import add_card

        return add_card(source, name=name, instance=instance, auth=auth, to=self, **card_changes)

    def remove(self, key: str) -> None:
        """Take an added instance out again; what is not there is no matter."""
        with self._mutex:
            self._added.pop(key, None)
            self._own = None

    def _check_free(self, made: Instance) -> None:
        other = self._added.get(made.key)
        if other is None:
            namesake = self._registered.get(made.card.name)
            if namesake is None or namesake is made.agent or made.name:
                return
            if card_of(namesake)[0].version != made.card.version:
                return
        raise DefinitionError(
            f"there are two agents {made.card.name!r} of version {made.card.version!r}"
            + (f", instance {made.name!r}" if made.name else "")
            + ". Give another version=… to what differs, or instance=… to the same agent at another place"
        )

    def instances(self, catalogue: Catalogue | None = None) -> Sequence[Instance]:
        """All instances: those of this process first, in the order of their definition.

        Args:
            catalogue: what else is known; by default that of the engine whose step is running, if one is.

        Raises:
            StoreError: it cannot be read.
        """
        return self._all(catalogue)

    def instance(self, key: str, catalogue: Catalogue | None = None) -> Instance | None:
        """The instance of this key."""
        return next((each for each in self._all(catalogue) if each.key == key), None)

    def refresh(self, catalogue: Catalogue) -> None:
        """Read what others have written until now, also if it was read a moment ago. Raises StoreError."""
        from cadenza.routing import kept

        with self._mutex:
            kept.read(catalogue, self._kept.setdefault(catalogue, kept.Known()), self.now())

    def find(
        self,
        *,
        skill: str = "",
        tags: Sequence[str] = (),
        text: str = "",
        placement: Sequence[str] = (),
        accepts: Any = MISSING,
        output_schema: dict[str, Any] | None = None,
        here: bool = True,
        catalogue: Catalogue | None = None,
    ) -> Sequence[Instance]:
        """Instances that have all that is asked for; those whose words fit ``text`` best first.

        Args:
            skill: the id of a skill.
            tags: all of them are on one of its skills.
            text: some of its words are on the card: name, description, purpose, skills with tags and examples.
            placement: labels that it has.
            accepts: a value that fits its input.
            output_schema: what comes out of it fits this JSON Schema.
            here: only those that this process can call; False: also those that it only knows of.
            catalogue: see ``instances``.

        Raises:
            UnknownName: nobody has such a skill or label; with the nearest ones.
        """
        from cadenza.routing.discovery import Acceptance, Use

        instances = self._all(catalogue)
        index = self._index(instances)
        found: set[int] | None = None
        for some in (*([index.skills[index.skill(skill).id]] if skill else []), *map(index.labelled, placement)):
            found = set(some) if found is None else found & set(some)
        if tags:
            found = index.tagged(tags) if found is None else found & index.tagged(tags)
        if text:
            order = index.ranked(text, found)
        else:
            order = sorted(found) if found is not None else list(range(len(instances)))
        acceptance = None if accepts is MISSING else Acceptance(accepts)
        use = None if output_schema is None else Use(index, output_schema)
        return [
            instances[position]
            for position in order
            if (instances[position].agent is not None or not here)
            and (acceptance is None or not acceptance.problem(instances[position]))
            and (use is None or not use.problem(position))
        ]

    def skill_named(self, skill: str, catalogue: Catalogue | None = None) -> Skill:
        """The skill of this id. Raises UnknownName with the nearest skills."""
        return self._index(self._all(catalogue)).skill(skill)

    async def serve(self, catalogue: Catalogue, worker: str) -> None:
        """Beat for the instances of this process, as this worker; ends when it is cancelled. See health.py."""
        from cadenza.routing.health import beats

        await beats(catalogue, worker, self)

    # --- what it is made of ---------------------------------------------------------------------------------------

    def _all(self, catalogue: Catalogue | None) -> tuple[Instance, ...]:
        own = self.own()
        catalogue = catalogue or catalogue_of_step()
        if catalogue is None:
            return own
        from cadenza.routing import kept

        with self._mutex:
            known = self._kept.get(catalogue)
            if known is None or not 0 <= self.now() - known.read_at < REFRESH_S * kept.US:
                self.refresh(catalogue)
                known = self._kept[catalogue]
            of, version, merged = self._merged.get(catalogue, (None, 0, ()))
            if of is not own or version != known.version:
                here = {each.key for each in own}
                others = [each for key, each in known.rows.items() if key not in here]
                merged = tuple(kept.judged(each, known) for each in (*own, *others))
                self._merged[catalogue] = (own, known.version, merged)
            return merged

    def own(self) -> tuple[Instance, ...]:
        """The instances that this process has code for."""
        with self._mutex:
            registered = list(self._registered.values())
            if self._own is None or registered != self._seen:
                known = {id(each.agent): each for each in self._own or () if each.key not in self._added}
                remote = {id(each.agent) for each in self._added.values() if each.source != "code"}
                implicit = [known.get(id(each)) or _implicit(each) for each in registered if id(each) not in remote]
                self._own = (*(each for each in implicit if each.key not in self._added), *self._added.values())
                self._seen = registered
            return self._own

    def _index(self, instances: tuple[Instance, ...]) -> Index:
        """One that was made before, if the cards are still the same: health alone does not count."""
        from cadenza.routing.discovery import Index

        with self._mutex:
            if instances is self._indexed:
                return self._indexes[0]
            same = (
                each
                for each in self._indexes
                if len(each.cards) == len(instances) and all(map(_same_card, each.cards, instances))
            )
            found = next(same, None) or Index([each.card for each in instances])
            others = [each for each in self._indexes if each is not found]
            self._indexes, self._indexed = [found, *others[: INDEXES_MAX - 1]], instances
            return found


def _same_card(card: Card, instance: Instance) -> bool:
    return card is instance.card


def card_of(agent: AnyAgent) -> tuple[Card, str]:
    """An agent's card; one without schemas, and the reason, if a type of its has none."""
    try:
        return agent.card, ""
    except Exception as error:  # whatever a user's type raises
        bare = getattr(agent, "_card", None)
        card = bare if isinstance(bare, Card) else Card(agent.name)
        return card, f"the card of {agent.name!r} has no schema: {type(error).__name__}: {error}"


def _implicit(agent: AnyAgent) -> Instance:
    card, problem = card_of(agent)
    return dataclasses.replace(_instance(agent, card, "", "", "code"), problem=problem)


def _instance(agent: AnyAgent, card: Card, name: str, health_url: str, source: str) -> Instance:
    return Instance(agent, card, name, owner=card.owner, purpose=card.purpose, health_url=health_url, source=source)


registry = Registry()
"""The one of this process."""
