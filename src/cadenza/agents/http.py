"""HTTP agents: an endpoint, or an operation of an OpenAPI document, as an agent."""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Unpack

from cadenza.agents.credential import ApiKey, Credential, secret_in
from cadenza.agents.json_schema import type_of
from cadenza.agents.operation import Message, Operation, Parameter, idempotency_header, placeholders
from cadenza.agents.peer_agent import CallFields, PeerAgent, policy_in, split
from cadenza.durable.define import Effect, Retry, StepOptions, step
from cadenza.errors import DefinitionError, PeerError, PeerFailed, PeerRefused, PeerUnavailable

if TYPE_CHECKING:
    from cadenza.agents.openapi import Source
    from cadenza.agents.wire import Reply

EFFECTS: dict[str, Effect] = {
    "GET": "read", "HEAD": "read", "OPTIONS": "read", "QUERY": "read", "PUT": "idempotent", "DELETE": "idempotent",
}  # fmt: skip
BODIES = ("POST", "PUT", "PATCH", "QUERY")
AGAIN = (429, 502, 503, 504)
RETRY_AFTER_S_MAX = 3600.0
SHOWN_MAX = 300
NO_BY_REFERENCE = ("authorization", "proxy-authorization", "cookie")


class HttpFields(CallFields, total=False):
    """What else a definition may say.

    Attributes:
        method: of an endpoint; GET by default.
        headers: sent with each request; no secrets.
        bytes_max: bound on an answer.
    """

    method: str
    headers: Mapping[str, str]
    bytes_max: int


class HttpAgent(PeerAgent):
    """An endpoint, or an operation of an OpenAPI document.

    Give ``url`` with ``{name}`` for the fields that belong into its path: the others go into the query, or are the JSON
    body of a POST, PUT or PATCH. Or give ``openapi`` and ``operation``: parameters are fields by their names, the body
    is the field ``body``, or the whole input where there are no parameters.

    Args:
        name: unique in the project.
        url: of the endpoint; with ``openapi``, of the server instead of the document's own.
        openapi: a path, a URL or the document itself; it is read once, here.
        operation: its operationId, or ``"METHOD /path"``.
        input, output: types of what goes in and comes out; by default the document's schemas, or plain JSON.
        auth: Bearer, ApiKey or Basic with the name of an environment variable; with ``openapi`` the mere name, if the
            document says how it is used.
        fields: see HttpFields, and ``step`` and Card. GET is ``read``, PUT and DELETE are ``idempotent``; POST and
            PATCH need an ``effect``. An attempt may take 30 s. Lost connections, attempts that took too long, and the
            answers 429, 502, 503 and 504 are tried again, four times in all.

    Raises:
        DefinitionError: the definition makes no sense, or another agent has the name.
        UnknownName: the document has no such operation.
    """

    def __init__(
        self,
        name: str,
        *,
        url: str = "",
        openapi: Source | None = None,
        operation: str = "",
        input: Any = Any,
        output: Any = Any,
        auth: Credential | str | None = None,
        **fields: Unpack[HttpFields],
    ) -> None:
        method = fields.pop("method", "")
        if openapi is None:
            self._operation = _endpoint(name, url, (method or "GET").upper())
        elif method:
            raise DefinitionError(f"{name}: the method is what the OpenAPI document says; drop method={method!r}")
        else:
            from cadenza.agents.openapi import read_operation

            self._operation = read_operation(openapi, operation, url)
        self._headers = dict(fields.pop("headers", {}))
        self._bytes_max = fields.pop("bytes_max", 1_000_000)
        self._credential = _credential(name, auth, self._operation)
        _check(name, self._operation, self._headers)
        policy = policy_in(fields, name)
        options, of_card = split(fields, "an HTTP agent")
        self._effect = options["effect"] = _effect(name, self._operation.method, options.get("effect"))
        options.setdefault("timeout_s", 30.0)
        if self._effect != "irreversible":
            options.setdefault("retry", Retry(attempts=4, delay_s=0.5))
        of_card["description"] = of_card.get("description") or self._operation.description
        types = (_typed(input, self._operation.input_schema, name), _typed(output, self._operation.output_schema, name))
        super().__init__("http", name, self._ask, types, StepOptions(**options), of_card, policy)

    @property
    def url(self) -> str:
        """Of the endpoint, with ``{name}`` where fields of the input go."""
        return self._operation.url

    async def _ask(self, input: Any) -> Any:
        from pydantic_core import to_jsonable_python

        message = self._operation.message(to_jsonable_python(input), self.name)
        fixed = {name.lower() for name in self._headers}
        headers = {name: value for name, value in message.headers.items() if name.lower() not in fixed} | self._headers
        if self._effect != "read":
            headers["Idempotency-Key"] = idempotency_header(step.key())
        whole = Message(message.method, message.url, headers, message.content)
        return self._value(await self._reply(whole))

    async def _reply(self, message: Message) -> Reply:
        from cadenza.agents import wire

        secret = secret_in(self._credential.env, self.name) if self._credential is not None else ""
        title = self._operation.title
        try:
            return await wire.exchange(message, self._credential, secret, bytes_max=self._bytes_max)
        except wire.NoReply as error:
            if error.sent:
                raise PeerUnavailable(self.name, f"{title}: the connection was lost: {error.problem}") from None
            problem = f"{title}: no connection: {error.problem}"
            raise self._never_done(problem, "Is the server up, and the URL right?") from None
        except wire.NotPossible as error:
            raise PeerRefused(self.name, f"{title}: no request can be made of this: {error}") from None
        except wire.TooLong as error:
            raise PeerFailed(self.name, f"{title} {error}", "Ask for less, or raise bytes_max.") from None

    def _never_done(self, problem: str, hint: str = "", retry_after_s: float = 0.0) -> PeerError:
        """It did not happen: an irreversible call is not in doubt, any other may be made again."""
        if self._effect == "irreversible":
            return PeerRefused(self.name, problem, hint)
        return PeerUnavailable(self.name, problem, hint, retry_after_s)

    def _value(self, reply: Reply) -> Any:
        if not 200 <= reply.status < 300:
            raise self._problem(reply)
        if not reply.text.strip() or self._operation.method == "HEAD":
            return None
        if reply.kind.startswith("text/"):
            return reply.text
        from pydantic_core import from_json

        try:
            return from_json(reply.text)
        except ValueError:
            said = f"answered {reply.status} with {reply.kind or 'no content type'}, which is not JSON: {_shown(reply)}"
            raise PeerFailed(self.name, f"{self._operation.title} {said}") from None

    def _problem(self, reply: Reply) -> PeerError:
        """What an answer that is not good means."""
        said = f"{self._operation.title} answered {reply.status}: {_shown(reply)}"
        if reply.status in AGAIN:
            wait_s = reply.retry_after_s
            if wait_s > RETRY_AFTER_S_MAX:
                return PeerFailed(self.name, f"{said} and asks to be left alone for {wait_s:,.0f} s")
            if reply.status == 429:
                return self._never_done(said, retry_after_s=wait_s)
            return PeerUnavailable(self.name, said, retry_after_s=wait_s)
        if 300 <= reply.status < 400:
            problem = f"{self._operation.title} answered {reply.status}: it is at {reply.location or 'another place'}"
            return PeerRefused(self.name, problem, "Redirects are not followed: give that url.", reply.status)
        if 400 <= reply.status < 500 and reply.status != 408:
            return PeerRefused(self.name, said, self._hint(reply.status), reply.status)
        return PeerFailed(self.name, said)

    def _hint(self, status: int) -> str:
        if status not in (401, 403):
            return ""
        if self._credential is None:
            return "Give auth=Bearer(…), ApiKey(…) or Basic(…) with the name of an environment variable."
        return f"Check what the environment variable {self._credential.env} holds."


def _endpoint(name: str, url: str, method: str) -> Operation:
    if not url:
        raise DefinitionError(f"{name}: an HTTP agent needs url=…, or openapi=… and operation=…")
    media = "application/json" if method in BODIES else ""
    return Operation(method, url, tuple(Parameter(each, "path", "simple") for each in placeholders(url)), media)


def _credential(name: str, auth: Credential | str | None, operation: Operation) -> Credential | None:
    if not isinstance(auth, str):
        return auth
    match operation.credential:
        case None:
            raise DefinitionError(
                f"{name}: nothing says how to authenticate: give auth=Bearer(…), ApiKey(…) or Basic(…), not a mere name"
            )
        case (key, place):
            return ApiKey(auth, key, place)
        case kind:
            return kind(auth)


def _check(name: str, operation: Operation, headers: dict[str, str]) -> None:
    parts = urllib.parse.urlsplit(operation.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise DefinitionError(f"{name}: an absolute http:// or https:// URL is needed, not {operation.url!r}")
    if parts.username or parts.password:
        raise DefinitionError(f"{name}: the URL has a user or password in it. Give auth=Basic(…) instead")
    if secret := [each for each in headers if each.lower() in NO_BY_REFERENCE]:
        raise DefinitionError(f"{name}: the header {secret[0]!r} holds a secret. Give auth=… with a variable's name")


def _effect(name: str, method: str, given: Effect | None) -> Effect:
    if given is None and method not in EFFECTS:
        raise DefinitionError(
            f"{name}: {method} may not be safe to repeat: say effect='idempotent' (an Idempotency-Key header is sent), "
            "'irreversible' (never sent twice unseen), or 'read' (it changes nothing)"
        )
    return given or EFFECTS[method]


def _typed(given: Any, schema: dict[str, Any] | None, name: str) -> Any:
    return type_of(schema, name) if given is Any and schema is not None else given


def _shown(reply: Reply) -> str:
    text = " ".join(reply.text.split())
    return (text if len(text) <= SHOWN_MAX else text[: SHOWN_MAX - 1] + "…") or "(an empty body)"
