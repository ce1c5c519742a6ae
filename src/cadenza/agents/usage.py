"""What agents cost: requests, tokens, price and time. A price that is unknown is None, which is not zero (rule 16)."""

from __future__ import annotations

import contextlib
import functools
import json
import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelResponse


@dataclass(frozen=True, slots=True)
class Usage:
    """What an agent used.

    Attributes:
        models: the names of those that answered.
        input_tokens: all of them, cached ones too.
        price_usd: None if the price of any request is unknown.
        latency_s: the sum of what the requests took.
    """

    agent: str = ""
    models: tuple[str, ...] = ()
    requests: int = 0
    tool_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    price_usd: float | None = 0.0
    latency_s: float = 0.0

    def __str__(self) -> str:
        return f"{self.requests:,} request{'' if self.requests == 1 else 's'}, {self.spent}"

    @property
    def spent(self) -> str:
        """Tokens, price and time, for people."""
        price = "price unknown" if self.price_usd is None else f"${self.price_usd:,.4f}"
        return f"{self.input_tokens:,} + {self.output_tokens:,} tokens, {price}, {self.latency_s:.1f} s"

    def __add__(self, other: Usage) -> Usage:
        priced = self.price_usd is not None and other.price_usd is not None
        return Usage(
            agent=self.agent or other.agent,
            models=tuple(dict.fromkeys([*self.models, *other.models])),
            requests=self.requests + other.requests,
            tool_calls=self.tool_calls + other.tool_calls,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cache_read_tokens=self.cache_read_tokens + other.cache_read_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
            price_usd=(self.price_usd or 0.0) + (other.price_usd or 0.0) if priced else None,
            latency_s=self.latency_s + other.latency_s,
        )


REQUEST = re.compile(r"(?:.+/)?request/\d+")


def of_memos(memos: Iterable[tuple[str, bytes]]) -> list[Usage]:
    """What the requests among a step's memos (key and JSON) used; other memos are passed over."""
    used: list[Usage] = []
    for key, raw in memos:
        if REQUEST.fullmatch(key):
            with contextlib.suppress(
                AttributeError, LookupError, TypeError, ValueError
            ):  # a step's own memo of such a name
                used.append(of_memo(json.loads(raw)))
    return used


def of_memo(saved: Mapping[str, Any]) -> Usage:
    """What one request used, as its memo tells. Attempts of other models that failed before it count as requests."""
    response = saved["response"]
    tokens = response.get("usage", {})
    return Usage(
        agent=saved["agent"],
        models=(response["model_name"],) if response.get("model_name") else (),
        requests=1 + len(response.get("failed_attempts", ())),
        input_tokens=tokens.get("input_tokens", 0),
        output_tokens=tokens.get("output_tokens", 0),
        cache_read_tokens=tokens.get("cache_read_tokens", 0),
        cache_write_tokens=tokens.get("cache_write_tokens", 0),
        price_usd=saved["price_usd"],
        latency_s=saved["latency_s"],
    )


def price_of(response: ModelResponse) -> float | None:
    """Its price in US dollars by genai-prices; None if the model, its price or its usage is unknown."""
    known = response.model_name and response.usage.has_values()
    if not known or not _is_priced(response.model_name, response.provider_url, response.provider_name):
        return None
    try:
        return float(response.cost().total_price)
    except (LookupError, ValueError, AssertionError):
        return None


@functools.lru_cache(maxsize=256)
def _is_priced(model: str | None, url: str | None, provider: str | None) -> bool:
    """Whether genai-prices knows the model; its search for one that it does not know takes long."""
    from pydantic_ai.messages import ModelResponse
    from pydantic_ai.usage import RequestUsage

    try:
        ModelResponse(
            [], usage=RequestUsage(input_tokens=1), model_name=model, provider_url=url, provider_name=provider
        ).cost()
    except LookupError:
        return False
    except (ValueError, AssertionError):
        return True
    return True


def by_agent(usages: Iterable[Usage]) -> tuple[Usage, ...]:
    """One row an agent, in the order in which they first appear."""
    rows: dict[str, Usage] = {}
    for usage in usages:
        rows[usage.agent] = rows[usage.agent] + usage if usage.agent in rows else usage
    return tuple(rows.values())


def total(usages: Sequence[Usage]) -> Usage:
    """All together, of no agent in particular."""
    return functools.reduce(operator.add, usages, Usage())
