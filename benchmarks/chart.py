"""How the generated pages of docs/ look: tables in Markdown, and plots that can be read on white and on black."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent.parent / "docs"
GREY = "#7d8590"
COLOURS = {"ours": "#0a84ff", "optimum": "#2da44e", "plain": "#d97706"}
OTHERS = ("#d97706", "#c026d3", "#dc2626", "#0d9488", "#7d8590")


def figure(columns: int, *, rows: int = 1, height: float = 3.4) -> tuple[Any, list[Any]]:
    """A figure with axes, without a background, all lines and words in a grey that both backgrounds bear."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    plain = {name: GREY for name in ("axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "text.color")}
    plain |= {"xtick.color": GREY, "ytick.color": GREY, "grid.color": GREY, "legend.labelcolor": GREY}
    look: dict[str, Any] = {**plain, "font.size": 9, "axes.titlesize": 10, "axes.grid": True, "grid.alpha": 0.25}
    look |= {"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "svg.hashsalt": "cadenza"}
    for name, value in look.items():
        pyplot.rcParams[name] = value  # pyright: ignore[reportArgumentType] - it has a type for each name
    made, axes = pyplot.subplots(rows, columns, figsize=(4.6 * columns, height * rows), squeeze=False)
    return made, [each for row in axes for each in row]


def save(made: Any, name: str) -> None:
    """Write docs/generated/<name>.png."""
    (DOCS / "generated").mkdir(parents=True, exist_ok=True)
    made.tight_layout()
    made.savefig(DOCS / "generated" / f"{name}.png", dpi=110, transparent=True, metadata={"Software": None})


def publish(name: str, text: str, page: str) -> None:
    """Write docs/generated/<name>.md, and the same between the marks of that name in a page of docs."""
    (DOCS / "generated").mkdir(parents=True, exist_ok=True)
    (DOCS / "generated" / f"{name}.md").write_text(f"{text}", "utf-8")
    before, marks, after = re.split(rf"(?s)(<!-- {name} -->\n.*?<!-- end -->)", (DOCS / page).read_text("utf-8"))
    assert marks
    (DOCS / page).write_text(f"{before}<!-- {name} -->\n{text}<!-- end -->{after}", "utf-8")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; the first column is words, the others are numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def mean_and_half(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and half the width of its 95 % confidence interval (normal approximation)."""
    return statistics.fmean(values), 1.96 * statistics.stdev(values) / math.sqrt(len(values))


def with_half(values: Sequence[float], digits: int = 0) -> str:
    mean, half = mean_and_half(values)
    return f"{mean:.{digits}f} ± {half:.{digits}f}"
