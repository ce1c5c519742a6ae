"""What all tests share: the Hypothesis profile, and tables at the end of the run.

No deadline, because two workers on a busy machine make any single example slow; fixed examples where CI is set, so that
a red build is red again.
"""

import os
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("cadenza", deadline=None, derandomize=bool(os.environ.get("CI")), print_blob=True)
settings.load_profile("cadenza")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints the tables whose rows tests have recorded: ``record_property("table: <title>", {column: value})``."""
    tables: dict[str, list[dict[str, Any]]] = {}
    for report in (each for reports in terminalreporter.stats.values() for each in reports):
        for name, row in getattr(report, "user_properties", ()):
            if report.when == "call" and name.startswith("table: "):
                tables.setdefault(name.removeprefix("table: "), []).append(row)
    for title, rows in tables.items():
        total = {
            column: sum(row[column] for row in rows) for column, value in rows[0].items() if isinstance(value, int)
        }
        cells = [[str(row.get(column, "")) for column in rows[0]] for row in [*rows, total]]
        widths = [max(len(each) for each in column) for column in zip(list(rows[0]), *cells, strict=True)]
        terminalreporter.section(title)
        for line in [list(rows[0]), *cells]:
            first, *others = zip(line, widths, strict=True)
            numbers = [text.rjust(width) for text, width in others]
            terminalreporter.write_line("  ".join([first[0].ljust(first[1]), *numbers]))
