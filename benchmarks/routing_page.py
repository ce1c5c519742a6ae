"""The curves of cost and quality as one page of HTML: the plot beside it, and its data as tables."""

from __future__ import annotations

from html import escape

HEAD = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Quality and cost of routing</title>
<style>
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
td, th { padding: .1rem .8rem; text-align: right }
img { max-width: 100%; height: auto }
</style>
<!-- Made by `python -m benchmarks.routing_quality`; do not edit. -->
<h1>Quality and cost of routing</h1>
<p>Every question goes to a weak or to a strong model. Cost is relative to sending all of them to the strong one; the
blue line is routed by predicted gain, the grey one by chance.</p>
<img src="routing-quality.png" alt="Right answers by cost, for MMLU and GSM8K">
"""


def page(curves: dict[str, dict[str, list[float]]]) -> str:
    return HEAD + "".join(_section(name, columns) for name, columns in curves.items()) + "</html>\n"


def _section(name: str, columns: dict[str, list[float]]) -> str:
    head = "".join(f"<th>{escape(each)}</th>" for each in columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{values[place]:.3f}</td>" for values in columns.values()) + "</tr>"
        for place in range(0, 101, 5)
    )
    return f"<h2>{escape(name)}</h2>\n<table><tr>{head}</tr>{rows}</table>\n"
