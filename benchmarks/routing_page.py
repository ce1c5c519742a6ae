"""The curves of cost and quality as one page of HTML: a drawing, and the same data as a table."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT, EDGE = 420, 260, 44
HEAD = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Quality and cost of routing</title>
<style>
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
td, th { padding: .1rem .8rem; text-align: right }
svg { max-width: 100%; height: auto } polyline { fill: none; stroke-width: 2 }
text { fill: currentColor; font-size: 11px }
.routed { stroke: #0a84ff } .chance { stroke: #7d8590; stroke-dasharray: 4 4 }
</style>
<!-- Made by `python -m benchmarks.routing_quality`; do not edit. -->
<h1>Quality and cost of routing</h1>
<p>Every question goes to a weak or to a strong model. Cost is relative to sending all of them to the strong one; the
blue line is routed by predicted gain, the grey one by chance.</p>
"""


def page(curves: dict[str, dict[str, list[float]]]) -> str:
    return HEAD + "".join(_section(name, columns) for name, columns in curves.items()) + "</html>\n"


def _section(name: str, columns: dict[str, list[float]]) -> str:
    low, high = min(columns["by chance"]), max(columns["routed"])
    lines = "".join(
        f'<polyline class="{kind}" points="{_points(columns["cost"], columns[column], low, high)}"/>'
        for kind, column in (("chance", "by chance"), ("routed", "routed"))
    )
    words = (
        f'<text x="{EDGE}" y="{HEIGHT - 12}">cost 0</text>'
        f'<text x="{WIDTH - 90}" y="{HEIGHT - 12}">always strong: 1</text>'
        f'<text x="2" y="{EDGE}">{high:.1%}</text><text x="2" y="{HEIGHT - EDGE}">{low:.1%}</text>'
    )
    head = "".join(f"<th>{escape(each)}</th>" for each in columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{values[place]:.3f}</td>" for values in columns.values()) + "</tr>"
        for place in range(0, 101, 5)
    )
    drawing = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(name)}">{lines}{words}</svg>'
    return f"<h2>{escape(name)}</h2>\n{drawing}\n<table><tr>{head}</tr>{rows}</table>\n"


def _points(across: Sequence[float], up: Sequence[float], low: float, high: float) -> str:
    wide, tall = WIDTH - 2 * EDGE, HEIGHT - 2 * EDGE
    return " ".join(
        f"{EDGE + x * wide:.1f},{HEIGHT - EDGE - (y - low) / (high - low) * tall:.1f}"
        for x, y in zip(across, up, strict=True)
    )
