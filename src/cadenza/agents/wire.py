"""One HTTP exchange. The credential is put on under the client, where nothing logs it; what comes back is freed of it.

The module imports the HTTP client: whoever needs it imports it when a request is sent.
"""

from __future__ import annotations

import email.utils
import functools
import ssl
import time
import urllib.parse
import urllib.request
from dataclasses import dataclass

import httpx2

from cadenza.agents.credential import ApiKey, Credential, header_of, redacted
from cadenza.agents.operation import Message
from cadenza.errors import CadenzaError

NEVER_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError, httpx2.PoolTimeout)
IMPOSSIBLE = (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError)
TIMEOUT = httpx2.Timeout(None, connect=10.0)


class NoReply(CadenzaError):
    """There is no whole answer. ``sent`` is whether the request may have reached the server."""

    def __init__(self, problem: str, *, sent: bool) -> None:
        self.problem, self.sent = problem, sent
        super().__init__(problem)


class NotPossible(CadenzaError):
    """No request can be made of this."""


class TooLong(CadenzaError):
    """The answer is over the bound."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer.

    Attributes:
        kind: its content type, in lower case without parameters.
        text: its body.
        location: where it redirects to.
        retry_after_s: how long it asks to be left alone; 0 if it does not say.
    """

    status: int
    kind: str
    text: str
    location: str = ""
    retry_after_s: float = 0.0


class Sealed(httpx2.AsyncBaseTransport):
    """Puts the credential on a copy of each request: the client, which logs requests, never has it."""

    def __init__(self, inner: httpx2.AsyncBaseTransport, credential: Credential | None, secret: str) -> None:
        self._inner, self._credential, self._secret = inner, credential, secret

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        headers, url = request.headers.copy(), request.url
        if self._credential is not None:
            header = header_of(self._credential, self._secret)
            if header is not None:
                headers[header[0]] = header[1]
            elif isinstance(self._credential, ApiKey):
                pair = urllib.parse.urlencode({self._credential.name: self._secret})
                url = httpx2.URL(f"{url}{'&' if url.query else '?'}{pair}")
        sealed = httpx2.Request(
            request.method, url, headers=headers, stream=request.stream, extensions=request.extensions
        )
        return await self._inner.handle_async_request(sealed)

    async def aclose(self) -> None:
        await self._inner.aclose()


async def exchange(message: Message, credential: Credential | None, secret: str, *, bytes_max: int) -> Reply:
    """Send a request and read the answer; how long that may take is for the caller to say.

    Raises:
        NoReply, NotPossible, TooLong: no secret is in their messages.
    """

    def free(problem: object) -> str:
        return redacted(str(problem) or type(problem).__name__, [secret] if secret else [])

    try:
        transport = Sealed(httpx2.AsyncHTTPTransport(verify=_tls(), proxy=_proxy(message.url)), credential, secret)
        async with httpx2.AsyncClient(transport=transport, timeout=TIMEOUT, trust_env=False) as client:
            request = client.stream(message.method, message.url, headers=message.headers, content=message.content)
            async with request as response:
                body = b""
                async for piece in response.aiter_bytes():
                    body += piece
                    if len(body) > bytes_max:
                        raise TooLong(f"answered with over {bytes_max:,} bytes")
                return Reply(
                    status=response.status_code,
                    kind=response.headers.get("content-type", "").partition(";")[0].strip().lower(),
                    text=free(body.decode(response.charset_encoding or "utf-8", "replace")) if body else "",
                    location=free(response.headers.get("location", "")),
                    retry_after_s=_seconds(response.headers.get("retry-after", "")),
                )
    except NEVER_SENT as error:
        raise NoReply(free(error), sent=False) from None
    except (*IMPOSSIBLE, httpx2.InvalidURL, UnicodeError) as error:
        raise NotPossible(free(error)) from None
    except (httpx2.TransportError, httpx2.DecodingError) as error:
        raise NoReply(free(error), sent=True) from None


@functools.cache
def _tls() -> ssl.SSLContext:
    """Made once: to read the certificates of the system takes longer than a request."""
    return httpx2.create_ssl_context()


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for this host."""
    parts = urllib.parse.urlsplit(url)
    if urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    return urllib.request.getproxies().get(parts.scheme)


def _seconds(retry_after: str) -> float:
    """A Retry-After header: seconds, or a date."""
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, TypeError):
        return 0.0
