"""An HTTP operation: what to send for an input. Pure: nothing is sent here, and no secret is known."""

from __future__ import annotations

import hashlib
import json
import re
import urllib.parse
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from cadenza.agents.credential import Credential
from cadenza.agents.json_schema import Schema
from cadenza.errors import PeerRefused

Place = Literal["path", "query", "header", "cookie"]
Style = Literal["simple", "form", "spaceDelimited", "pipeDelimited", "deepObject", "json"]
SEPARATORS = {"simple": ",", "form": ",", "spaceDelimited": " ", "pipeDelimited": "|"}
FORM, TEXT = "application/x-www-form-urlencoded", "text/plain"
KEY_LENGTH_MAX = 255
_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A field of the input that travels outside of the body. ``style`` and ``explode`` are those of OpenAPI."""

    name: str
    place: Place
    style: Style = "form"
    explode: bool = True


@dataclass(frozen=True, slots=True)
class Message:
    """A request, without its credential."""

    method: str
    url: str
    headers: dict[str, str] = field(default_factory=dict[str, str])
    content: bytes | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """What to ask of whom.

    Attributes:
        url: absolute, with ``{name}`` for parameters in the path.
        media: content type of the body; "" is no body: fields that are no parameters go into the query then.
        body_field: the field that is the body; "" is all that is not a parameter, or the whole input if none is.
        input_schema, output_schema: JSON Schemas; None is anything.
        credential: what the document says of how to authenticate, with no variable's name yet.
    """

    method: str
    url: str
    parameters: tuple[Parameter, ...] = ()
    media: str = ""
    body_field: str = ""
    input_schema: Schema | None = None
    output_schema: Schema | None = None
    credential: type[Credential] | tuple[str, Literal["header", "query"]] | None = None
    description: str = ""

    @property
    def title(self) -> str:
        """For errors: no values are in it."""
        return f"{self.method} {self.url}"

    def message(self, given: Any, agent: str) -> Message:
        """The request for an input, which is plain data. Raises PeerRefused if no request can be made of it."""
        if not self.parameters and self.media and not self.body_field:
            content = None if given is None else encoded(given, self.media)
            return Message(self.method, self.url, self._headers({}, content), content)
        fields = self._fields(given, agent)
        placed: dict[Place, list[tuple[str, str]]] = {"path": [], "query": [], "header": [], "cookie": []}
        for each in self.parameters:
            value = fields.pop(each.name, None)
            if value is not None:
                placed[each.place] += written(each, value)
            elif each.place == "path":
                raise PeerRefused(agent, f"the input has no {each.name!r}, which is part of the path of {self.title}")
        content = None
        if self.media:
            body = fields.get(self.body_field) if self.body_field else fields
            content = None if body is None else encoded(body, self.media)
        else:
            for name, value in fields.items():
                placed["query"] += [] if value is None else written(Parameter(name, "query"), value)
        headers = dict(placed["header"])
        if placed["cookie"]:
            headers["Cookie"] = "; ".join(f"{name}={urllib.parse.quote(value)}" for name, value in placed["cookie"])
        url = self._path(dict(placed["path"]), agent)
        if placed["query"]:
            url += ("&" if "?" in url else "?") + urllib.parse.urlencode(placed["query"], quote_via=urllib.parse.quote)
        return Message(self.method, url, self._headers(headers, content), content)

    def _fields(self, given: Any, agent: str) -> dict[str, Any]:
        if isinstance(given, dict):
            return dict(cast("dict[str, Any]", given))
        if given is None:
            return {}
        if len(self.parameters) == 1 and not self.media:
            return {self.parameters[0].name: given}
        raise PeerRefused(agent, f"{self.title} takes an object with named fields, not {type(given).__name__}")

    def _path(self, values: dict[str, str], agent: str) -> str:
        """A value is one segment: it can lead nowhere else."""
        if bad := [name for name, value in values.items() if value in ("", ".", "..")]:
            raise PeerRefused(agent, f"{bad[0]!r} is {values[bad[0]]!r}, which cannot be part of a path")
        return _PLACEHOLDER.sub(lambda found: urllib.parse.quote(values[found[1]], safe=""), self.url)

    def _headers(self, headers: dict[str, str], content: bytes | None) -> dict[str, str]:
        accepted = {"Accept": "application/json, text/*;q=0.5, */*;q=0.1", **headers}
        return accepted if content is None else {**accepted, "Content-Type": self.media}


def placeholders(url: str) -> list[str]:
    """The names of the parameters in a path."""
    return list(dict.fromkeys(_PLACEHOLDER.findall(url)))


def encoded(body: Any, media: str) -> bytes:
    """A body as bytes."""
    if media == FORM and isinstance(body, dict):
        fields = cast("dict[str, Any]", body)
        pairs = [
            pair
            for name, value in fields.items()
            if value is not None
            for pair in written(Parameter(name, "query"), value)
        ]
        return urllib.parse.urlencode(pairs).encode()
    if media == TEXT and isinstance(body, str):
        return body.encode()
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def written(parameter: Parameter, value: Any) -> list[tuple[str, str]]:
    """A parameter as name and text; more than one pair if it is a list that is repeated."""
    name, separator = parameter.name, SEPARATORS.get(parameter.style, ",")
    if parameter.style == "json":
        return [(name, json.dumps(value, separators=(",", ":")))]
    if isinstance(value, dict):
        pairs = [(key, text(each)) for key, each in cast("dict[str, Any]", value).items() if each is not None]
        if parameter.style == "deepObject":
            return [(f"{name}[{key}]", each) for key, each in pairs]
        if parameter.place in ("query", "cookie") and parameter.explode:
            return pairs
        joint = "=" if parameter.explode else separator
        return [(name, separator.join(f"{key}{joint}{each}" for key, each in pairs))]
    if isinstance(value, list):
        texts = [text(each) for each in cast("list[Any]", value)]
        if parameter.place in ("query", "cookie") and parameter.explode:
            return [(name, each) for each in texts]
        return [(name, separator.join(texts))]
    return [(name, text(value))]


def text(value: Any) -> str:
    """A scalar as JSON writes it, text as it is."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def idempotency_header(key: str) -> str:
    """The key of a call as a header; servers keep at most 255 characters."""
    return key if len(key) <= KEY_LENGTH_MAX else hashlib.blake2b(key.encode(), digest_size=32).hexdigest()
