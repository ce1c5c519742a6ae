"""The results as text: one table a workload, then the targets. With rich if it is installed, else plain columns."""

import os
import statistics
import sys
from collections.abc import Sequence

from benchmarks.harness import Results
from benchmarks.targets import TITLES, UNITS, Verdict, best, limits, lower_is_better, ratio

Row = Sequence[str]


def print_results(results: Results) -> None:
    """Print a table for each workload; the best first."""
    for workload, series in results.values.items():
        cadenza = best(results, workload, "cadenza")
        limit = next(iter(limits(results, workload)), None)
        down = lower_is_better(workload)
        rows: list[Row] = []
        measured = [(key, values) for key, values in series.items() if values]
        for key, values in sorted(measured, key=lambda item: statistics.median(item[1]), reverse=not down):
            of_limit = f"{ratio(results, workload, key, limit):.3g}" if limit else ""
            ahead = ""
            if cadenza and key.kind == "peer":
                over, under = (key, cadenza) if down else (cadenza, key)
                ahead = f"{ratio(results, workload, over, under):.1f} ×"
            spread = f"{_number(min(values))} – {_number(max(values))}"
            rows.append((key.name, _number(statistics.median(values)), spread, of_limit, ahead, key.guarantee))
        header = ("", UNITS[workload], "lowest – highest", "÷ limit", "Cadenza ahead", "guarantee")
        print_table(TITLES[workload], header, rows, bold="Cadenza")


def print_verdicts(verdicts: Sequence[Verdict]) -> None:
    """Print the table "Speed to reach"."""
    words = {True: "met", False: "NOT met", None: "?"}
    rows = [(verdict.target, verdict.measured, words[verdict.met]) for verdict in verdicts]
    print_table("Speed to reach", ("target", "measured (median of the ratios of a round)", ""), rows, bold="NOT met")


def print_table(title: str, header: Row, rows: Sequence[Row], bold: str) -> None:
    """Print one table; rows that contain `bold` in a cell stand out."""
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        _print_plain(title, header, rows)
        return
    table = Table(title=title, title_justify="left", title_style="bold")
    for column, name in enumerate(header):
        number = column > 0 and any(row[column][:1].isdigit() for row in rows) and len(header) > 3
        table.add_column(name, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row, style="bold" if any(bold in cell for cell in row) else None)
    width = None if sys.stdout.isatty() else int(os.environ.get("COLUMNS", "150"))
    console = Console(width=width)
    console.print(table)
    console.print()


def _print_plain(title: str, header: Row, rows: Sequence[Row]) -> None:
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    print(title)
    for row in [header, *rows]:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print()


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
