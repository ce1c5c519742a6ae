"""A call of a tool, as scripted models make it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ToolCall:
    """A scripted answer: the model calls a tool."""

    tool: str
    arguments: dict[str, Any] = field(default_factory=dict[str, Any])


def call(tool: str, /, **arguments: Any) -> ToolCall:
    """The model calls ``tool``; a list of them is one answer with several calls, side by side."""
    return ToolCall(tool, arguments)
