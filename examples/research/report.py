"""The reports: one piece of research as Markdown, HTML and JSON, every claim with its source.

Everything that comes from a page is escaped. The JSON has no times and no run id: the same web gives the same file,
however often the run was killed, and in whatever order the answers came.
"""

import json
import os
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from cadenza import step

from .facts import FIELDS, DeepDive, Fact, Finding

TEMPLATE = Path(__file__).with_name("report.html")
UNIT = {"revenue": " M$"}


@dataclass(frozen=True)
class Research:
    """All that was found. ``done`` is ranked; ``gaps`` are in the order of the plan."""

    out: str
    done: list[Finding]
    gaps: list[Finding]
    spent_usd: float
    cap_usd: float
    dives: list[DeepDive] = field(default_factory=list[DeepDive])

    @property
    def conflicts(self) -> list[tuple[Finding, Fact]]:
        return [(each, fact) for each in self.done for fact in each.facts.values() if fact.conflict]

    @property
    def flagged(self) -> list[str]:
        return [url for each in self.done for url in each.flagged]

    @property
    def repaired(self) -> list[str]:
        return sorted(url for each in self.done for url in each.repaired)


@dataclass(frozen=True)
class Summary:
    """What the workflow returns; the evidence is in the files."""

    done: int
    gaps: dict[str, str]
    conflicts: int
    flagged: list[str]
    repaired: list[str]
    spent_usd: float
    cap_usd: float
    dives: list[str]
    files: list[str]


@step
def write_reports(research: Research) -> Summary:
    """Write the three files. Idempotent: written beside and renamed, the same research gives the same files."""
    folder = Path(research.out)
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "report.md": as_markdown(research),
        "report.html": as_page(research),
        "report.json": json.dumps(as_json(research), indent=2, ensure_ascii=False) + "\n",
    }
    for name, content in files.items():
        draft = folder / f".{name}.{os.getpid()}"
        draft.write_text(content, encoding="utf-8")
        draft.replace(folder / name)
    return Summary(
        len(research.done),
        {each.company.name: each.gap for each in research.gaps},
        len(research.conflicts),
        research.flagged,
        research.repaired,
        round(research.spent_usd, 3),
        research.cap_usd,
        [dive.company.name for dive in research.dives],
        [str(folder / name) for name in files],
    )


def as_json(research: Research) -> dict[str, Any]:
    return {
        "companies": [
            {"rank": rank, "name": each.company.name, "facts": {n: asdict(f)["values"] for n, f in each.facts.items()}}
            for rank, each in enumerate(research.done, 1)
        ],
        "conflicts": [{"company": each.company.name, "field": fact.field} for each, fact in research.conflicts],
        "gaps": [{"company": each.company.name, "reason": each.gap} for each in research.gaps],
        "flagged": research.flagged,
        "repaired": research.repaired,
        "budget": {"spent_usd": round(research.spent_usd, 3), "cap_usd": research.cap_usd},
        "deep_dives": [asdict(dive) for dive in research.dives],
    }


# --- tables: rows of plain text, which both formats escape in their own way -------------------------------------------

Table = tuple[str, tuple[str, ...], list[tuple[str, ...]]]


def tables(research: Research) -> list[Table]:
    """Title, heads and rows of each table of the report."""
    ranking = [
        (str(rank), each.company.name, *(value(each.facts[name]) for name in ("revenue", *FIELDS[:3])))
        for rank, each in enumerate(research.done, 1)
    ]
    conflicts = [
        (each.company.name, fact.field, *(f"{said} ({places(fact, said)})" for said in list(fact.values)[:2]))
        for each, fact in research.conflicts
    ]
    dives = [dive_row(dive) for dive in research.dives]
    claims = [
        (each.company.name, fact.field, said, source.url, f"“{source.quote}”", source.sha256[:12])
        for each in research.done
        for fact in each.facts.values()
        for said, sources in fact.values.items()
        for source in sources
    ]
    return [
        ("Deep dives", ("Company", "Revenue, M$", "Growth", "Source, or why not"), dives),
        ("Ranking", ("", "Company", "Revenue", "Founded", "Headquarters", "Employees"), ranking),
        ("Conflicts", ("Company", "Field", "One source says", "Another says"), conflicts),
        ("Gaps", ("Company", "Why nothing is known"), [(each.company.name, each.gap) for each in research.gaps]),
        ("Pages with lines that speak to machines", ("Page",), [(url,) for url in research.flagged]),
        ("Claims", ("Company", "Field", "Value", "Source", "Its words", "SHA-256 of the page"), claims),
    ]


def dive_row(dive: DeepDive) -> tuple[str, ...]:
    if dive.growth is None:
        return dive.company.name, "nothing is known", "", dive.gap
    figures = " → ".join(f"{each.year}: {each.revenue}" for each in dive.years)
    return dive.company.name, figures, f"{dive.growth:+.1%}", dive.years[0].source.url


def value(fact: Fact) -> str:
    """For a table: all that is said of it."""
    return " or ".join(fact.values) + UNIT.get(fact.field, "") + (" (sources differ)" if fact.conflict else "")


def places(fact: Fact, said: str) -> str:
    return ", ".join(source.url for source in fact.values[said])


def headline(research: Research) -> str:
    return (
        f"{len(research.done)} companies researched, {len(research.gaps)} gaps, {len(research.conflicts)} conflicts, "
        f"{len(research.flagged)} pages flagged, {len(research.repaired)} readings repaired. "
        f"${research.spent_usd:.3f} of ${research.cap_usd:.2f} were spent. All companies are made up."
    )


def as_markdown(research: Research) -> str:
    parts = ["# Research on 50 companies", "", headline(research)]
    for title, heads, rows in tables(research):
        if rows:
            parts += ["", f"## {title}", "", _row(heads), _row(["---"] * len(heads)), *map(_row, rows)]
    return "\n".join(parts) + "\n"


def _row(cells: Any) -> str:
    return "| " + " | ".join(_plain(cell) for cell in cells) + " |"


def _plain(text: str) -> str:
    """Text from a page, so that it cannot change the report around it."""
    flat = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"\\{char}" if char in "|`*_[]" else char for char in flat)


def as_page(research: Research) -> str:
    parts: list[str] = []
    for title, heads, rows in tables(research):
        if rows:
            head = "".join(f"<th>{escape(each)}</th>" for each in heads)
            body = "".join("<tr>" + "".join(f"<td>{escape(each)}</td>" for each in row) + "</tr>\n" for row in rows)
            parts.append(f'<h2>{title}</h2><div class="scroll"><table><tr>{head}</tr>\n{body}</table></div>')
    template = Template(TEMPLATE.read_text(encoding="utf-8"))
    return template.substitute(headline=escape(headline(research)), tables="\n".join(parts))
