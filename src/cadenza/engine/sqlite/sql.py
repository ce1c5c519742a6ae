"""Named SQL: ``queries.sql`` and the migrations, read once."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent
APPLICATION_ID = 0x4361_647A  # "Cadz"


@cache
def queries() -> dict[str, str]:
    """Name to statement; ``{other}`` in a statement stands for the statement of that name."""
    text = (FOLDER / "queries.sql").read_text(encoding="utf-8")
    parts = re.split(r"^-- name: (\w+)\n", text, flags=re.MULTILINE)[1:]
    named = {name: body.strip() for name, body in zip(parts[::2], parts[1::2], strict=True)}
    for part in ("run_columns", "next_no"):
        named = {name: body.replace(f"{{{part}}}", named[part]) for name, body in named.items()}
    return named


@cache
def migrations() -> list[str]:
    """Scripts in order; the n-th brings a database to version n."""
    return [each.read_text(encoding="utf-8") for each in sorted((FOLDER / "migrations").glob("*.sql"))]
