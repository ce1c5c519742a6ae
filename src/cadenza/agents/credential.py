"""Credentials by reference: the name of an environment variable. The value is read when a request is sent, and nowhere
else; what comes back from outside is freed of it before anything else sees it."""

from __future__ import annotations

import base64
import html
import json
import os
import re
import urllib.parse
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from cadenza.errors import DefinitionError, PeerRefused

SECRET_LENGTH_MIN = 4
"""Shorter values are not looked for in what comes back: they are in every text."""
REDACTED = "[secret]"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


@dataclass(frozen=True, slots=True)
class Bearer:
    """``Authorization: Bearer …``. ``env`` names the variable that holds the token."""

    env: str

    def __post_init__(self) -> None:
        check_variable(self.env)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key in the header, or the query parameter, called ``name``. ``env`` names the variable that holds the key."""

    env: str
    name: str = "X-API-Key"
    place: Literal["header", "query"] = "header"

    def __post_init__(self) -> None:
        check_variable(self.env)
        if self.place not in ("header", "query"):
            raise DefinitionError(f"ApiKey: place is 'header' or 'query', not {self.place!r}")


@dataclass(frozen=True, slots=True)
class Basic:
    """``Authorization: Basic …``. ``env`` names the variable that holds ``user:password``."""

    env: str

    def __post_init__(self) -> None:
        check_variable(self.env)


Credential = Bearer | ApiKey | Basic


def check_variable(name: str) -> None:
    """Raises DefinitionError if this names no environment variable; it may be the secret itself, so it is not shown."""
    if not _NAME.fullmatch(name):
        raise DefinitionError(
            "a credential is the NAME of an environment variable (letters, digits, '_'); "
            f"what was given, {len(name)} characters, is none. Export the secret, and give the variable's name"
        )


def secret_in(env: str, agent: str) -> str:
    """The value of the variable. Raises PeerRefused: nothing is sent without it."""
    value = os.environ.get(env, "").strip()
    if not value:
        raise PeerRefused(
            agent, f"the environment variable {env} is not set", f"Export {env} where Cadenza runs, then start again."
        )
    return value


def header_of(credential: Credential, secret: str) -> tuple[str, str] | None:
    """The header that carries the secret; None if it travels in the query."""
    match credential:
        case Bearer():
            return "Authorization", f"Bearer {secret}"
        case Basic():
            return "Authorization", f"Basic {base64.b64encode(secret.encode()).decode()}"
        case ApiKey(place="header", name=name):
            return name, secret
        case ApiKey():
            return None


def redacted(text: str, secrets: Iterable[str]) -> str:
    """``text`` without the secrets, in any of the forms in which a program may repeat them."""
    forms: set[str] = set()
    for secret in secrets:
        for form in (secret, *secret.split(":", 1), base64.b64encode(secret.encode()).decode()):
            escaped = json.dumps(form)[1:-1]
            forms |= {form, escaped, escaped.replace("/", "\\/"), html.escape(form)}
            forms |= {urllib.parse.quote(form, safe=""), urllib.parse.quote(form), urllib.parse.quote_plus(form)}
    for form in sorted(forms, key=len, reverse=True):
        if len(form) >= SECRET_LENGTH_MIN:
            text = text.replace(form, REDACTED)
    return text
