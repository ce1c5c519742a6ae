"""Agents of other people, by the URL of their card.

A card of A2A 1.0 is read (its signature is not looked at), and one of A2A 0.3 too. An agent that has an HTTP+JSON
interface of A2A 1.0 can be called: one message there, its answer back. Of any other the registry knows what it can do,
and why it cannot be called from here. Source: A2A protocol 1.0, sections 4.4 (Agent Card), 8 (discovery), 11 (HTTP).
"""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from cadenza.agents.card import Card, Skill
from cadenza.agents.credential import ApiKey, Basic, Bearer, Credential
from cadenza.errors import CardInvalid
from cadenza.routing.card_agent import CardAgent
from cadenza.routing.instance import Instance

if TYPE_CHECKING:
    from cadenza.routing.registry import Registry

Source = str | Path | Mapping[str, Any]
WELL_KNOWN = "/.well-known/agent-card.json"
BYTES_MAX = 1_000_000
FETCH_S_MAX = 10.0
SKILLS_MAX = 1_000
TEXT_MAX = 4_000
PROBLEMS_MAX = 8
HTTP_JSON = "HTTP+JSON"
JSON_MODES = ("application/json", "*/*")
SCHEMES = {
    "apiKeySecurityScheme": "apiKey",
    "httpAuthSecurityScheme": "http",
    "oauth2SecurityScheme": "oauth2",
    "openIdConnectSecurityScheme": "openIdConnect",
    "mtlsSecurityScheme": "mutualTLS",
}
"""A2A 1.0's names, and those that 0.3 has from OpenAPI."""


@dataclass(frozen=True, slots=True)
class Interface:
    """Where an agent can be asked, and how."""

    url: str
    binding: str
    version: str
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class RemoteCard:
    """A card that was read.

    Attributes:
        title: its name as it is written; ``card.name`` is made of it.
        schemes: the kinds of authentication of which it asks for one, with the credential's shape where we have one.
    """

    title: str
    card: Card
    source: str
    interfaces: tuple[Interface, ...]
    schemes: tuple[tuple[str, Any], ...] = ()

    @property
    def interface(self) -> Interface | None:
        """The first one that can be spoken from here."""
        fit = (each for each in self.interfaces if each.binding == HTTP_JSON and each.version.split(".")[0] == "1")
        return next(fit, None)

    def obstacle(self, auth: Credential | str | None) -> str:
        """Why it cannot be called from here; empty if it can."""
        if self.interface is None:
            spoken = ", ".join(dict.fromkeys(f"{each.binding} {each.version}".strip() for each in self.interfaces))
            return f"it speaks {spoken}; what can be called from here is {HTTP_JSON} 1.x"
        if self.schemes and auth is None:
            asked = " or ".join(dict.fromkeys(kind for kind, _ in self.schemes))
            return f"it asks for {asked}: give auth=…, with the name of an environment variable"
        if self.schemes and isinstance(auth, str) and all(shape is None for _, shape in self.schemes):
            return (
                f"it asks for {self.schemes[0][0]}, which is not spoken here: give auth=Bearer(…), ApiKey(…), Basic(…)"
            )
        return ""


def add_card(
    source: Source,
    *,
    name: str = "",
    instance: str = "",
    auth: Credential | str | None = None,
    to: Registry,
    **card_changes: Any,
) -> Instance:
    """See ``Registry.add_card``; ``to`` is the registry."""
    found = read_card(source, name)
    health_url = found.source if found.source.startswith(("http://", "https://")) else ""
    card = replace(found.card, **card_changes)
    problem = found.obstacle(auth)
    interface = found.interface
    if problem or interface is None:
        return to.put(Instance(None, card, instance, health_url=health_url, source=found.source, problem=problem))
    shape = next((shape for _, shape in found.schemes if shape is not None), None)
    credential = shape(auth) if isinstance(auth, str) and shape is not None else auth
    agent = CardAgent(f"{card.name}.{instance}" if instance else card.name, interface.url, interface.version,
        interface.tenant, cast("Credential | None", credential), card)  # fmt: skip
    return to.put(Instance(agent, card, instance, health_url=health_url, source=found.source))


def read_card(source: Source, name: str = "") -> RemoteCard:
    """A card from a URL, a file, or as it is. Raises CardInvalid."""
    if isinstance(source, Mapping):
        return _Reader(dict(source), "the card").read(name)
    where = str(source)
    if where.startswith(("http://", "https://")):
        where = card_url(where)
        raw = _fetched(where)
    else:
        try:
            raw = Path(where).read_bytes()
        except OSError as error:
            hint = "Give a URL that begins with http:// or https://, or a file."
            raise CardInvalid(where, [str(error.strerror or error).lower()], hint) from None
    try:
        value: Any = json.loads(raw)
    except ValueError as error:
        begins = " ".join(raw[:60].decode("utf-8", "replace").split())
        raise CardInvalid(where, [f"it is not JSON ({error}); it begins with {begins!r}"]) from None
    if not isinstance(value, dict):
        raise CardInvalid(where, [f"a card is a JSON object, not {type(value).__name__}"])
    return _Reader(cast("dict[str, Any]", value), where).read(name)


def card_url(url: str) -> str:
    """Where the card of the agent at ``url`` is."""
    parts = urllib.parse.urlsplit(url)
    if parts.path.endswith(".json"):
        return url
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/") + WELL_KNOWN, "", ""))


def _fetched(url: str) -> bytes:
    import httpx2

    if urllib.parse.urlsplit(url).username:
        raise CardInvalid(url, ["the URL has a user or password in it"], "Cards are public; give auth=… for calls.")
    body = b""
    try:
        with httpx2.stream("GET", url, timeout=FETCH_S_MAX, headers={"Accept": "application/json"}) as response:
            if response.is_redirect:
                place = response.headers.get("location", "another place")
                raise CardInvalid(url, [f"it is at {place}"], "Redirects are not followed: give that URL.")
            if response.status_code != 200:
                hint = "Has the agent a card, and is the URL right?" if response.status_code == 404 else ""
                raise CardInvalid(url, [f"the server answered {response.status_code}"], hint)
            for piece in response.iter_bytes():
                body += piece
                if len(body) > BYTES_MAX:
                    raise CardInvalid(url, [f"it has more than {BYTES_MAX:,} bytes"])
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        hint = "Is the server up, and the URL right?"
        raise CardInvalid(url, [f"no answer ({str(error) or type(error).__name__})"], hint) from None
    return body


class _Reader:
    """Reads one card, and collects what is wrong with it."""

    def __init__(self, said: dict[str, Any], source: str) -> None:
        self._said, self._source = said, source
        self._problems: list[str] = []

    def read(self, name: str) -> RemoteCard:
        title, version = self._text(self._said, "name"), self._text(self._said, "version")
        description = self._text(self._said, "description")
        interfaces, skills, schemes = self._interfaces(), self._skills(), self._schemes()
        label = name or re.sub(r"[^A-Za-z0-9_.-]+", "_", title).strip("_.-").lower()
        if title and not label:
            self._problems.append(f"name: {title!r} has no letter that a name can have here; give name=…")
        if self._problems:
            left = len(self._problems) - PROBLEMS_MAX
            more = [f"and {left} more"] if left > 0 else []
            raise CardInvalid(self._source, self._problems[:PROBLEMS_MAX] + more)
        provider = self._said.get("provider")
        owner = str(cast("dict[str, Any]", provider).get("organization", "")) if isinstance(provider, dict) else ""
        card = Card(
            label,
            description,
            re.sub(r"[/@\s]+", "_", version),
            skills,
            input_schema=_schema(self._said.get("defaultInputModes")),
            output_schema=_schema(self._said.get("defaultOutputModes")),
            owner=owner[:TEXT_MAX],
        )
        return RemoteCard(title, card, self._source, interfaces, schemes)

    def _text(self, said: dict[str, Any], key: str, where: str = "") -> str:
        value = said.get(key)
        if not isinstance(value, str) or not value.strip():
            self._problems.append(
                f"{where}{key}: {'is missing' if value is None else f'a text is needed, not {value!r}'}"
            )
            return ""
        return value.strip()[:TEXT_MAX]

    def _texts(self, said: dict[str, Any], key: str, where: str) -> tuple[str, ...]:
        value: Any = said.get(key, [])
        if not isinstance(value, list) or not all(isinstance(each, str) for each in cast("list[Any]", value)):
            self._problems.append(f"{where}{key}: a list of texts is needed, not {repr(cast('Any', value))[:40]}")
            return ()
        return tuple(each[:TEXT_MAX] for each in cast("list[str]", value))

    def _objects(self, key: str) -> list[tuple[str, dict[str, Any]]]:
        value = self._said.get(key)
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in cast("list[Any]", value)):
            self._problems.append(f"{key}: {'is missing' if value is None else 'a list of objects is needed'}")
            return []
        return [(f"{key}[{number}].", each) for number, each in enumerate(cast("list[dict[str, Any]]", value))]

    def _skills(self) -> tuple[Skill, ...]:
        found: dict[str, Skill] = {}
        for where, each in self._objects("skills")[:SKILLS_MAX]:
            id = self._text(each, "id", where)
            if id in found:
                self._problems.append(f"{where}id: {id!r} is the id of another skill too")
            description = str(each.get("description") or each.get("name") or "")[:TEXT_MAX]
            found[id] = Skill(id, description, self._texts(each, "tags", where), self._texts(each, "examples", where))
        return tuple(found.values())

    def _interfaces(self) -> tuple[Interface, ...]:
        found: list[Interface] = []
        if "supportedInterfaces" not in self._said and "url" in self._said:  # A2A 0.3
            version = str(self._said.get("protocolVersion", "0.3"))
            first = {"url": self._said["url"], "transport": self._said.get("preferredTransport", "JSONRPC")}
            others = self._objects("additionalInterfaces") if "additionalInterfaces" in self._said else []
            for where, each in [("", first), *others]:
                url, binding = self._url(each, where), self._text(each, "transport", where)
                found.append(Interface(url, binding, version))
            return tuple(dict.fromkeys(found))
        for where, each in self._objects("supportedInterfaces"):
            url, binding = self._url(each, where), self._text(each, "protocolBinding", where)
            version, tenant = self._text(each, "protocolVersion", where), str(each.get("tenant") or "")
            found.append(Interface(url, binding, version, tenant))
        if not found and not self._problems:
            self._problems.append("supportedInterfaces: at least one is needed")
        return tuple(found)

    def _url(self, said: dict[str, Any], where: str) -> str:
        url = self._text(said, "url", where)
        parts = urllib.parse.urlsplit(url) if url.isprintable() else urllib.parse.urlsplit("")
        if url and (not parts.netloc or parts.username):
            self._problems.append(f"{where}url: an absolute URL without a user is needed, not {url[:60]!r}")
        return url

    def _schemes(self) -> tuple[tuple[str, Any], ...]:
        """The schemes of which one must be used, if the card asks for any."""
        required: Any = self._said.get("securityRequirements") or self._said.get("security") or []
        declared: Any = self._said.get("securitySchemes") or {}
        found: list[tuple[str, Any]] = []
        if not isinstance(required, list) or not isinstance(declared, dict):
            self._problems.append("securityRequirements: a list of objects is needed, with securitySchemes beside it")
            return ()
        for each in cast("list[Any]", required):
            one = cast("dict[str, Any]", each) if isinstance(each, dict) else {}
            names: dict[str, Any] = one.get("schemes", one)
            if not names:
                return ()  # one of the choices is to need none
            for name in names:
                found.append(_scheme(name, cast("dict[str, Any]", declared).get(name)))
        return tuple(found)


def _scheme(name: str, said: Any) -> tuple[str, Any]:
    """A scheme's kind, and what makes a credential for it of an environment variable's name."""
    if not isinstance(said, dict):
        return name, None
    scheme = cast("dict[str, Any]", said)
    kind = str(scheme.get("type", ""))
    for word, meant in SCHEMES.items():
        if isinstance(scheme.get(word), dict):
            kind, scheme = meant, cast("dict[str, Any]", scheme[word])
    if kind == "http":
        way = str(scheme.get("scheme", "")).lower()
        return f"http {way}", {"bearer": Bearer, "basic": Basic}.get(way)
    if kind == "apiKey":
        place, key = str(scheme.get("location") or scheme.get("in")), str(scheme.get("name", ""))
        if place not in ("header", "query"):
            return f"an API key in a {place}", None
        return f"an API key in the {place} {key}", partial(ApiKey, name=key, place=cast("Any", place))
    if kind in ("oauth2", "openIdConnect"):
        return kind, Bearer
    return kind or name, None


def _schema(modes: Any) -> dict[str, Any]:
    """Of a card's media types: text, or anything that is JSON."""
    if isinstance(modes, list) and any(each in JSON_MODES for each in cast("list[Any]", modes)):
        return {}
    return {"type": "string"}
